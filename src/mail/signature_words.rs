//! The words by which signatures and the footers of mail programs are known. All lower case, alternatives between `|`.

/// How a footer that a program or a device adds may begin: words that say "sent from", "sent with", "get".
pub(super) static FOOTER_BEGINS: &[&str] = &[
    "sent from|sent via|sent with|sent using|get outlook for|sent through",
    "gesendet von|gesendet mit|gesendet über|gesendet via|gesendet aus|verschickt mit|verschickt von",
    "diese nachricht wurde von meinem|diese nachricht wurde mit|diese mail wurde|versendet mit",
    "holen sie sich outlook|outlook für",
    "envoyé de|envoyé depuis|envoyé à partir|envoyé avec|envoyé par|envoyé via|télécharger outlook",
    "obtenir outlook|obtenez outlook",
    "expédié depuis|provenance : courrier",
    "enviado desde|enviado con|enviado vía|enviado via|enviado de mi|enviado a partir|obtener outlook",
    "descargar outlook|obtén outlook",
    "enviado do|enviado da|enviado pelo|enviado pela|enviado através|obter o outlook|baixe o outlook",
    "obter outlook|enviado por",
    "inviato da|inviato dal|inviato con|inviato tramite|ottieni outlook|scarica outlook|inviata da",
    "verzonden vanaf|verzonden met|verzonden via|verstuurd vanaf|verstuurd met|verzonden van|outlook voor",
    "download outlook",
    "wysłano z|wysłane z|wysłano za pomocą|wysłano przy|pobierz outlook|pobierz program outlook|wysłane przez",
    "odesláno z|odesláno pomocí|odesláno ze|odoslané z|odoslané zo|získat outlook|získejte outlook",
    "poslano z|poslano s",
    "sendt fra|sendt via|sendt med|hent outlook|få outlook|skickat från|skickat via|skickat med",
    "hämta outlook|sänt från",
    "hanki outlook|lähetetty|elküldve|küldve|az outlook letöltése|trimis de pe|trimis din|trimis de la",
    "trimis prin|obțineți outlook",
    "отправлено с|отправлено из|отправлено через|отправлено от|послано с|послано из|скачать outlook",
    "изпратено от|--отправлено",
    "надіслано з|надіслано із|надіслано через|надіслано за|відправлено з|відправлено із|завантажити outlook",
    "отримати outlook",
    "στάλθηκε από|εστάλη από|αποκτήστε το outlook|λήψη του outlook|enviat des|enviat amb|baixa outlook",
    "obteniu l'outlook",
    "发自|從我的|从我的|发送自|發自|傳送自|获取 outlook|取得 outlook|寄自我的|来自我的",
    "ios용 outlook|android용 outlook|ios 版 outlook|android 版 outlook|ios 用 outlook",
    "נשלח מ|נשלח מה|קבל את outlook|أرسلت من|مرسل من|تم الإرسال من|الحصول على outlook|đã gửi từ|dikirim dari",
    "được gửi từ",
    "saadetud minu|nosūtīts no|išsiųsta iš",
];

/// How a footer may end, in languages that put the verb there.
pub(super) const FOOTER_ENDS: &str = "\
    gesendet|gesendet.|gönderildi|gönderildi.|gönderilmiştir|küldve|küldve.|から送信|から送信しました|に入手|에서 보냄\
    |에서 보냈습니다|에서 전송|傳送|传送|發送|发送|送信";

/// Devices, systems and programs that such a footer names.
pub(super) const DEVICES: &str = "\
    iphone|iphonu|iphonie|iphona|iphonom|ipad|ipod|ios|android|samsung|galaxy|blackberry|outlook|yahoo\
    |gmail|gmx|web.de|aol|icloud|windows|mobile|mobil|phone|handy|smartphone|huawei|xiaomi|redmi|poco\
    |oneplus|oppo|realme|nokia|sony|xperia|htc|pixel|motorola|moto|wiko|honor|fairphone|proton|protonmail\
    |typeapp|bluemail|sparrow|zoho|airmail|spark|edison|fastmail|tuta|tutanota|mailbird|thunderbird|k-9\
    |fairemail|mail.ru|yandex|tablet|telefon|téléphone|telefono|teléfono|telefone|móvil|celular|cellulare\
    |telefoon|телефона|телефон|смартфона|почты|почта|пошти|почти|айфона|手机|手機|邮箱|郵件|邮件|휴대폰|스마트폰|갤럭시|메일\
    |appareil|dispositivo|gerät|device|superhuman|shortwave|mymail|libero|orange|t-mobile|telekom|seznam\
    |wp|onet|naver|qq|163|foxmail";

/// Words for "my": with one of these a short footer needs no known device.
pub(super) const MY: &str = "\
    my|meinem|meiner|mon|ma|mi|meu|minha|mio|mia|mijn|moje|mojego|mojí|mého|min|mitt|моего|мого|мой|我的\
    |mobile";

/// Closing words that hardly stand for anything else.
pub(super) static CLOSINGS: &[&str] = &[
    "regards|best regards|kind regards|kindest regards|warm regards|warmest regards|many regards",
    "with regards|with kind regards",
    "with best regards|best wishes|all the best|with best wishes|cheers|sincerely|sincerely yours",
    "yours sincerely|yours truly",
    "yours faithfully|respectfully|kind rgds|rgds|br|b.r|kr|brgds|brgs|best|warmly|cordially|best rgds",
    "many thanks and regards",
    "thanks and regards|thanks & regards|thank you and regards|thanks and best regards",
    "thanks & best regards|take care",
    "mit freundlichen grüßen|mit freundlichen grüssen|mit freundlichem gruß|mit freundlichem gruss|freundliche grüße",
    "freundliche grüsse|mit besten grüßen|beste grüße|beste grüsse|viele grüße|viele grüsse|liebe grüße",
    "liebe grüsse|herzliche grüße",
    "herzliche grüsse|schöne grüße|schöne grüsse|mfg|lg|vg|hochachtungsvoll|viele liebe grüße|grüße|grüsse",
    "gruß|gruss|bg|mbg",
    "mit lieben grüßen|mit vielen grüßen|mit freundlichen gruessen|beste gruesse|viele gruesse",
    "liebe gruesse|ganz liebe grüße",
    "cordialement|bien cordialement|très cordialement|salutations|sincères salutations",
    "meilleures salutations|cdt|cdlt|bien à vous",
    "bien à toi|respectueusement|amicalement|salutations distinguées|belle journée|bonne journée",
    "bonne soirée|bonne réception",
    "saludos|un saludo|saludos cordiales|cordiales saludos|atentamente|un cordial saludo|muchos saludos",
    "reciba un cordial saludo",
    "saludos cordialmente|un abrazo|cordialmente|atte|atentos saludos|un saludo cordial|muy atentamente",
    "salutacions|atentament",
    "atenciosamente|att|cumprimentos|com os melhores cumprimentos|melhores cumprimentos|cordiais saudações",
    "abraço|abraços|abs",
    "saudações|um abraço|cpts|cordiais cumprimentos|com os meus cumprimentos",
    "cordiali saluti|distinti saluti|saluti|un saluto|cari saluti|un cordiale saluto|buona giornata",
    "buona serata|tanti saluti",
    "met vriendelijke groet|met vriendelijke groeten|vriendelijke groet|vriendelijke groeten|mvg",
    "hartelijke groet|groet|groeten",
    "hartelijke groeten|groetjes|met hartelijke groet|hoogachtend|gr",
    "pozdrawiam|z poważaniem|pozdrawiam serdecznie|serdecznie pozdrawiam|z wyrazami szacunku|pozdrowienia|pozdr",
    "s pozdravem|s přátelským pozdravem|zdravím|hezký den|s úctou|s pozdravom|děkuji a přeji hezký den",
    "srdečný pozdrav",
    "med venlig hilsen|venlig hilsen|mvh|hilsen|bedste hilsner|de bedste hilsner|kærlig hilsen|vh",
    "venlige hilsner|mange hilsner",
    "med vennlig hilsen|vennlig hilsen|beste hilsen|hilsning|vennlige hilsener|med vänlig hälsning",
    "med vänliga hälsningar",
    "vänliga hälsningar|vänlig hälsning|hälsningar|bästa hälsningar|hälsning|vänligen|allt gott",
    "ystävällisin terveisin|terveisin|parhain terveisin|yst. terv|terv|terveiset|ystävällisesti",
    "üdvözlettel|tisztelettel|üdv|köszönettel|szép napot|szép napot kívánok|baráti üdvözlettel|előre is köszönöm",
    "cu stimă|cu respect|o zi bună|cu drag|numai bine|cu considerație",
    "saygılarımla|saygılarımızla|iyi çalışmalar|selamlar|sevgiler|iyi günler|kolay gelsin",
    "с уважением|с наилучшими пожеланиями|всего доброго|с искренним уважением|всего хорошего",
    "с благодарностью|с приветом",
    "з повагою|з найкращими побажаннями|всього найкращого|гарного дня|щиро ваш|с поздрави|поздрави",
    "с уважение|lijep pozdrav|lp|pozdrav",
    "srdačan pozdrav|lep pozdrav|με εκτίμηση|με φιλικούς χαιρετισμούς|φιλικά|ευχαριστώ εκ των προτέρων|χαιρετισμούς",
    "此致|敬礼|祝好|顺祝商祺|谨上|敬上|敬禮|順頌商祺|祝商祺|此致敬礼|祝您工作愉快",
    "よろしくお願いします|よろしくお願いいたします|宜しくお願いします|宜しくお願い致します|よろしくお願い致します|敬具",
    "以上、よろしくお願いいたします|以上、よろしくお願いします|宜しくお願いいたします|감사합니다 드림|드림|올림|수고하세요",
    "trân trọng|salam|hormat kami|salam hormat|בברכה|בכבוד רב|בברכה רבה|مع تحياتي|مع أطيب التحيات|تحياتي",
    "وتفضلوا بقبول فائق الاحترام",
];

/// Thanks. These close a mail only where a name follows; alone they are said to the reader.
pub(super) static THANKS: &[&str] = &[
    "thanks|thank you|many thanks|thanks a lot|thanks in advance|thank you in advance|thx|ty|thanks again",
    "thank you very much",
    "thanks so much|thank you so much|much appreciated|tia|danke|vielen dank|besten dank|danke im voraus",
    "vielen dank im voraus",
    "herzlichen dank|danke schön|dankeschön|merci|merci beaucoup|merci d'avance|merci par avance",
    "merci d’avance|gracias",
    "muchas gracias|gracias de antemano|obrigado|obrigada|muito obrigado|muito obrigada|grazie|grazie mille",
    "grazie in anticipo",
    "bedankt|dank je|dank u|alvast bedankt|bij voorbaat dank|dziękuję|z góry dziękuję|dzięki|děkuji",
    "děkuji předem|díky|ďakujem",
    "tak|mange tak|på forhånd tak|takk|på forhånd takk|tusen takk|tack|tack på förhand|tack så mycket",
    "kiitos|kiitos etukäteen",
    "köszönöm|köszönöm szépen|mulțumesc|multumesc|vă mulțumesc|teşekkürler|teşekkür ederim|teşekkür ederiz",
    "şimdiden teşekkürler",
    "спасибо|благодарю|заранее спасибо|заранее благодарю|дякую|наперед дякую|благодаря|hvala|ευχαριστώ",
    "ευχαριστώ πολύ|gràcies",
    "moltes gràcies|谢谢|謝謝|感谢|多谢|ありがとうございます|감사합니다|고맙습니다|תודה|תודה רבה|شكرا|شكرًا|cảm ơn|terima kasih",
];

/// Words of which one stands in the first lines of a notice that a firm adds below every mail…
pub(super) const NOTICES: &str = "\
    confidential|privileged|intended recipient|intended solely|intended only|before printing|vertraulich\
    |adressat|bevor sie diese|confidentiel|confidentialité|destinataire|d'imprimer|d’imprimer\
    |confidencial|destinatario|antes de imprimir|destinatário|sigilos|riservat|confidenziale|destinatari\
    |di stampare|vertrouwelijk|geadresseerde|poufn|adresat|důvěrn|fortrolig|konfidentiell|konfidensiell\
    |luottamuksel|bizalmas|confidențial|gizli|конфиденциальн|конфіденційн|εμπιστευτικ|机密|保密|機密|기밀\
    |virus-free|virenfrei";

/// … and words of which one begins it.
pub(super) const NOTICE_BEGINS: &str = "\
    this|the information|the contents|confidential|confidentiality|disclaimer|notice|important\
    |please consider|virus-free|virenfrei|information in this|if you are not|diese|dieses|der inhalt\
    |bitte denken|bitte prüfen|hinweis|vertraulichkeit|ce message|ce courriel|ce mail|cet e-mail\
    |les informations|pensez|avant d|le contenu|este|esta|la información|aviso|antes de|o conteúdo\
    |as informações|questo|questa|le informazioni|il contenuto|ai sensi|prima di|nota di riservatezza\
    |avviso di|avvertenza|avis de|nota legal|dit|deze|de informatie|niniejsza|ta wiadomość|treść|tato\
    |tento|obsah|denne|informationen|detta|informasjonen|tämä|ez az|jelen|acest|bu e-posta|bu ileti\
    |данное|это|настоящее|это сообщение|це повідомлення|το παρόν|αυτό|本邮件|本郵件|この|本メール|이|본";
