//! The words by which mail programs mark what they quote, one row a language.
//!
//! All words are lower case, alternatives stand between `|`. A new language is a new row in [`LANGUAGES`]; no code knows
//! how many there are. Closing words and footers are in [`super::signature_words`].

/// What one language calls the parts of a quote's header.
pub(super) struct Words {
    /// The verb of "… wrote:", as it stands at the header's end or in its middle.
    pub(super) wrote: &'static str,
    /// The words that a header may begin with ("On …").
    pub(super) intro: &'static str,
    /// Names of the field that says who wrote.
    pub(super) from: &'static str,
    /// Names of the field that says when it was sent and that nothing but a mail has.
    pub(super) sent: &'static str,
    /// Names of the date field that other texts have too.
    pub(super) date: &'static str,
    /// Names of recipients and of further fields of a mail.
    pub(super) to: &'static str,
    /// Names of the subject field.
    pub(super) subject: &'static str,
    /// What a rule or a line of its own says above a quoted or forwarded mail.
    pub(super) original: &'static str,
}

/// A row of [`LANGUAGES`], in the order of the fields of [`Words`].
const fn row(all: [&'static str; 8]) -> Words {
    let [wrote, intro, from, sent, date, to, subject, original] = all;
    Words { wrote, intro, from, sent, date, to, subject, original }
}

/// Every language that is known: wrote, intro, from, sent, date, to, subject, original.
pub(super) static LANGUAGES: &[Words] = &[
    // English
    row([
        "wrote|writes|a wrote",
        "on|at",
        "from",
        "sent",
        "date",
        "to|cc|bcc|reply-to|reply to|importance|priority|attachments",
        "subject",
        "original message|original email|original e-mail|original mail|forwarded message|begin forwarded message\
         |forwarded by|reply above this line|please type your reply above this line|reply message\
         |start of forwarded message",
    ]),
    // German
    row([
        "schrieb|schrieb am|schreibt|schrieb folgendes|geschrieben",
        "am|an|on",
        "von",
        "gesendet|gesendet am|gesendet um",
        "datum",
        "an|kopie|cc|antwort an|antworten an|wichtigkeit|anlagen|priorität",
        "betreff",
        "ursprüngliche nachricht|original-nachricht|originalnachricht|original nachricht\
         |weitergeleitete nachricht|ursprüngliche mail|ursprüngliche e-mail|anfang der weitergeleiteten nachricht\
         |anfang der weitergeleiteten e-mail|urspr. nachricht|bitte oberhalb dieser linie antworten\
         |weitergeleitet von",
    ]),
    // French
    row([
        "a écrit|écrit|écrivait|a ecrit|a envoyé|a déclaré",
        "le|el",
        "de|expéditeur|from",
        "envoyé|envoyé le|envoyé par",
        "date|message du|le message du",
        "à|a|pour|cc|copie à|copie|répondre à|destinataire|importance|pièces jointes",
        "objet|sujet",
        "message d'origine|message d’origine|message original|message transféré|message initial|e-mail d'origine\
         |courriel original|début du message réexpédié|début du message transféré|transféré par",
    ]),
    // Spanish
    row([
        "escribió|escribio|ha escrito|escribía|escribe",
        "el|en|a",
        "de|desde",
        "enviado|enviado el|enviada",
        "fecha",
        "para|a|cc|cco|responder a|importancia|datos adjuntos",
        "asunto",
        "mensaje original|mensaje reenviado|correo original|inicio del mensaje reenviado|mensaje enviado\
         |mensagem reenviada",
    ]),
    // Portuguese
    row([
        "escreveu|escreveu o seguinte|escreve|escrevia",
        "em|no dia|a|no",
        "de",
        "enviado|enviada|enviado em|enviada em|enviado a",
        "data",
        "para|cc|cco|responder a|responder para|importância|anexos",
        "assunto",
        "mensagem original|mensagem encaminhada|mensagem reencaminhada|início da mensagem encaminhada\
         |início da mensagem reencaminhada|e-mail original",
    ]),
    // Italian
    row([
        "ha scritto|scrive|ha inviato|scrisse",
        "il|il giorno|in data|alle",
        "da",
        "inviato|inviato il|inviata",
        "data",
        "a|per|cc|ccn|rispondi a|importanza|allegati",
        "oggetto",
        "messaggio originale|messaggio inoltrato|inizio messaggio inoltrato|messaggio originario|inoltrato da",
    ]),
    // Dutch
    row([
        "schreef|schreef op|schreef het volgende|geschreven|heeft geschreven",
        "op",
        "van",
        "verzonden|verstuurd|verzonden op",
        "datum|verzenddatum",
        "aan|cc|bcc|antwoord aan|antwoorden aan|urgentie|bijlagen",
        "onderwerp",
        "oorspronkelijk bericht|origineel bericht|doorgestuurd bericht|oorspronkelijke bericht|originele bericht\
         |begin doorgestuurd bericht|oorspronkelijke e-mail",
    ]),
    // Polish
    row([
        "napisał|napisała|napisał(a)|napisał/a|pisze|napisano",
        "w dniu|dnia|w|użytkownik",
        "od|nadawca|from",
        "wysłano|wysłane|wysłany|data wysłania",
        "data",
        "do|dw|udw|adresat|odpowiedz do|ważność",
        "temat",
        "wiadomość oryginalna|oryginalna wiadomość|wiadomość przekazana|przekazana wiadomość\
         |treść przekazanej wiadomości|początek przekazywanej wiadomości|wiadomość napisana",
    ]),
    // Czech
    row([
        "napsal|napsala|napsal(a)|napsal/a|píše",
        "dne|dňa",
        "od|odesílatel",
        "odesláno|odeslal|odeslané",
        "datum",
        "komu|kopie|skrytá|důležitost|přílohy",
        "předmět",
        "původní zpráva|původní e-mail|přeposlaná zpráva|předaná zpráva|začátek přeposílané zprávy|původní email",
    ]),
    // Slovak
    row([
        "napísal|napísala|napísal(a)|píše",
        "dňa|dne",
        "od|odosielateľ",
        "odoslané|odoslaný",
        "dátum",
        "komu|kópia|pre",
        "predmet",
        "pôvodná správa|preposlaná správa|začiatok preposlanej správy",
    ]),
    // Danish
    row([
        "skrev|har skrevet|skrev følgende|skriver",
        "den|d.|på",
        "fra",
        "sendt|sendt den",
        "dato",
        "til|cc|bcc|svar til|prioritet|vedhæftede filer",
        "emne",
        "oprindelig besked|oprindelig meddelelse|original meddelelse|original besked|videresendt besked\
         |videresendt meddelelse|start på videresendt besked|start på videresendt meddelelse",
    ]),
    // Norwegian
    row([
        "skrev|skreiv|skrev følgende|skriver",
        "den|på|kl.",
        "fra|frå",
        "sendt|sendt dato",
        "dato",
        "til|kopi|cc|blindkopi|svar til|viktighet|vedlegg",
        "emne",
        "opprinnelig melding|original melding|opprinneleg melding|videresendt melding|opprinnelig e-post\
         |start på videresendt melding|start på videresendt e-post",
    ]),
    // Swedish
    row([
        "skrev|skrev följande|skriver",
        "den|på",
        "från",
        "skickat|skickat den",
        "datum",
        "till|kopia|cc|svar till|prioritet|bifogade filer",
        "ämne",
        "ursprungligt meddelande|originalmeddelande|vidarebefordrat meddelande|ursprungligt mejl\
         |början på vidarebefordrat meddelande|vidarebefordrat brev|vidarebefordrat mejl",
    ]),
    // Finnish
    row([
        "kirjoitti|kirjoitti näin|kirjoittaa",
        "klo|pvm",
        "lähettäjä|keneltä",
        "lähetetty|lähetysaika",
        "päivämäärä|päiväys|pvm",
        "vastaanottaja|kenelle|kopio|vastausosoite|tärkeys",
        "aihe",
        "alkuperäinen viesti|välitetty viesti|edelleenlähetetty viesti|edelleen lähetetty viesti\
         |alkaa edelleenlähetetty viesti|välitetty viesti alkaa",
    ]),
    // Hungarian
    row([
        "írta|ezt írta|írja|a következőt írta|írta a következőt",
        "ezen a napon|dátum",
        "feladó|küldő|küldte",
        "küldve|elküldve|küldés dátuma",
        "dátum",
        "címzett|másolatot kap|másolat|válaszcím|fontosság",
        "tárgy",
        "eredeti üzenet|továbbított üzenet|eredeti levél|továbbított levél kezdete|továbbított levél",
    ]),
    // Romanian
    row([
        "a scris|a scris următoarele|scrie",
        "în|in|pe|la",
        "de la|de|expeditor",
        "trimis|trimis la|trimisă|expediat",
        "dată|data",
        "către|catre|pentru|cc|răspuns către",
        "subiect|subiectul",
        "mesaj original|mesajul original|mesaj redirecționat|mesaj redirecţionat|mesaj înaintat\
         |început mesaj redirecționat",
    ]),
    // Turkish
    row([
        "yazdı|şunu yazdı|şunları yazdı|tarihinde şunu yazdı|yazmış",
        "tarih",
        "kimden|gönderen",
        "gönderildi|gönderilme|gönderme tarihi|gönderim tarihi",
        "tarih",
        "kime|alıcı|bilgi|cc|önem",
        "konu",
        "orijinal ileti|özgün ileti|orijinal mesaj|iletilen mesaj|iletilmiş ileti|yönlendirilen ileti\
         |i̇letilen ileti|yönlendirilmiş ileti|i̇letilmiş ileti",
    ]),
    // Russian
    row([
        "написал|написала|написал(а)|написали|пишет|писал|писала|пользователь",
        "в|от",
        "от|отправитель|от кого",
        "отправлено|послано|отправлен",
        "дата",
        "кому|копия|скрытая копия|ответить|важность|вложения",
        "тема",
        "исходное сообщение|исходное письмо|пересланное сообщение|пересылаемое сообщение|пересылаемое письмо\
         |оригинальное сообщение|начало переадресованного сообщения|начало пересылаемого сообщения\
         |пересланное письмо",
    ]),
    // Ukrainian
    row([
        "написав|написала|написав(-ла)|написав(ла)|пише|написали|писав|писала",
        "у|в|від",
        "від|від кого|відправник",
        "надіслано|відправлено|відіслано",
        "дата",
        "кому|копія|важливість",
        "тема",
        "вихідне повідомлення|переслане повідомлення|пересилане повідомлення|початкове повідомлення\
         |оригінальне повідомлення|початок пересланого повідомлення",
    ]),
    // Bulgarian
    row([
        "написа|написа следното|пише",
        "на",
        "от",
        "изпратено|изпратена",
        "дата",
        "до|копие",
        "относно|тема",
        "оригинално съобщение|препратено съобщение|оригинално писмо",
    ]),
    // Croatian, Serbian, Slovenian
    row([
        "napisao je|napisala je|je napisao|je napisala|napisao|napisala|piše|je napisal|je oseba|написао је\
         |je napisal/-a",
        "dana|dne|u",
        "šalje|od|pošiljatelj",
        "poslano|poslato|послато",
        "datum",
        "prima|za|kome|kopija",
        "predmet|naslov|tema|zadeva",
        "izvorna poruka|proslijeđena poruka|prosleđena poruka|originalna poruka|izvirno sporočilo\
         |posredovano sporočilo",
    ]),
    // Greek
    row([
        "έγραψε|έγραψε τα εξής|έγραψαν|γράφει",
        "στις|την|τη|στην",
        "από",
        "στάλθηκε|αποστολή|εστάλη",
        "ημερομηνία",
        "προς|κοιν|κοιν.|κοινοποίηση",
        "θέμα",
        "αρχικό μήνυμα|προωθημένο μήνυμα|έναρξη προωθημένου μηνύματος|προωθούμενο μήνυμα",
    ]),
    // Catalan
    row([
        "missatge de|va escriure|ha escrit|escrigué|escriu|ha escrit el següent",
        "el|el dia|la|en data",
        "de",
        "enviat|enviat el",
        "data",
        "per a|a|cc|a l'atenció de",
        "assumpte|tema",
        "missatge original|missatge reenviat|inici del missatge reenviat",
    ]),
    // Estonian, Latvian, Lithuanian
    row([
        "kirjutas|rakstīja|parašė|rašė",
        "kuupäeval|am",
        "saatja|no|nuo|kellelt",
        "saadetud|saatmisaeg|nosūtīts|išsiųsta",
        "kuupäev|datums|data",
        "saaja|kellele|kam|iki|koopia|kopija",
        "teema|temats|tēma|tema",
        "algne kiri|algne sõnum|edastatud kiri|sākotnējais ziņojums|pārsūtīts ziņojums|originalus laiškas\
         |persiųstas laiškas",
    ]),
    // Vietnamese, Indonesian
    row([
        "đã viết|viết|menulis",
        "vào|pada|pada tanggal|tanggal",
        "từ|dari",
        "đã gửi|dikirim|terkirim",
        "ngày|tanggal",
        "đến|tới|kepada|ke",
        "chủ đề|tiêu đề|subjek|perihal",
        "thư gốc|thư đã chuyển tiếp|pesan asli|pesan terusan|tin nhắn gốc",
    ]),
    // Chinese, both scripts
    row([
        "写道|寫道|写到|寫到|写信|撰寫|來信|的邮件",
        "在|于|於",
        "发件人|寄件者|寄件人|发自|發件人|發信人",
        "发送时间|寄件日期|傳送時間|发送日期|傳送日期|已发送|發送時間|已傳送",
        "日期|时间|時間",
        "收件人|收件者|抄送|副本|密件副本|密送|回复|回覆至",
        "主题|主旨|主題|标题",
        "原始邮件|原始郵件|转发的邮件|轉寄郵件|转发邮件|邮件原件|原邮件|轉寄的郵件|转发的信息|已转发邮件|原始信件|已轉寄的郵件|回复的原邮件|下面是被转发的邮件|開始轉寄郵件",
    ]),
    // Japanese
    row([
        "のメッセージ|が書きました|さんは書きました|は書きました|のメール|さんが書きました",
        "",
        "差出人|送信者|from",
        "送信日時|送信日",
        "日付|日時",
        "宛先|cc|返信先",
        "件名|題名",
        "元のメッセージ|転送されたメッセージ|転送メッセージ|転送メール|オリジナルメッセージ|元のメール|返信元のメッセージ",
    ]),
    // Korean
    row([
        "작성|쓴 글|이(가) 쓴 글|님이 작성|님이 씀|님이 쓴 글|님의 말|씀|님이 작성한 메시지",
        "",
        "보낸사람|보낸 사람|보낸이|발신",
        "보낸날짜|보낸 날짜|보냄|보낸시간|보낸 시간",
        "날짜|일시",
        "받는사람|받는 사람|받는이|수신|참조",
        "제목",
        "원본 메시지|원본 메일|전달된 메시지|전달한 메시지|원본메시지|전달된 메일|original message",
    ]),
    // Hebrew
    row([
        "כתב|כתבה|כתב/ה|כתב/כתבה|מאת",
        "בתאריך|ב|ביום|ב-",
        "מאת",
        "נשלח|נשלח ב",
        "תאריך",
        "אל|עותק|העתק",
        "נושא|הנדון",
        "הודעה מקורית|ההודעה המקורית|הודעה שהועברה|הודעה מועברת|תחילת הודעה שהועברה",
    ]),
    // Arabic
    row([
        "كتب|كتبت|تمت كتابة ما يلي بواسطة|كتب ما يلي|تمت كتابة ما يلي",
        "في|بتاريخ|يوم",
        "من|مِن",
        "تم الإرسال|أُرسلت|تاريخ الإرسال|أرسلت|مرسل",
        "التاريخ|تاريخ",
        "إلى|الى|نسخة|نسخة إلى",
        "الموضوع|موضوع",
        "الرسالة الأصلية|رسالة أصلية|رسالة معاد توجيهها|الرسالة المعاد توجيهها|بدء الرسالة المعاد توجيهها\
         |رسالة محولة",
    ]),
];

/// Words for "I". Who writes "On Monday I wrote:" quotes himself in prose.
pub(super) const OWN: &str = "i|ich|ik|jeg|jag|eg|я|аз|jsem|som|sem|sam|minä|mä|我|私|저는|제가";

/// Whether `word` is one of the alternatives of `list`.
pub(super) fn lists(list: &str, word: &str) -> bool {
    !word.is_empty() && list.split('|').any(|entry| entry == word)
}

#[cfg(test)]
mod tests;
