//! Headers above a quote as many programs write them, and prose that looks like one.

use super::super::split;

/// Each above a quote with marks and above one without.
const HEADERS: &[&str] = &[
    "On March 5, 2024 2:20:11 PM GMT+01:00, Desk <desk@shop.example> wrote:",
    "On Tue, 5 Mar 2024, at 2:20 PM, Desk wrote:",
    "On 5 Mar 2024 at 14:20 +0100, Desk <desk@shop.example>, wrote:",
    "On Tue, Mar 05, 2024 at 2:20 PM, Desk < desk@shop.example > wrote:",
    "On 5 Mar 2024, at 14:20, Desk <desk@shop.example<mailto:desk@shop.example>> wrote:",
    "On Tue, Mar 5, 2024 at 2:20 PM 'Desk' via Support <support@shop.example> wrote:",
    "On Tue, Mar 5, 2024 at 2:20 PM *Desk* <desk@shop.example> wrote:",
    "*On Tue, Mar 5, 2024 at 2:20 PM Desk <desk@shop.example> wrote:*",
    "On Tue, Mar 5, 2024 at 2:20 PM <desk@shop.example> wrote:",
    "Desk <desk@shop.example> wrote on 5 March 2024:",
    "Desk (desk@shop.example) wrote:",
    "---- On Tue, 05 Mar 2024 14:20:11 +0100 Desk <desk@shop.example> wrote ---",
    "------ Original Message ------",
    "--------- Original Message ---------",
    "-----Original Message-----",
    "Begin forwarded message:",
    "Am 5. März 2024 14:20:11 MEZ schrieb Laden <hilfe@laden.example>:",
    "Am 2024-03-05 14:20, schrieb Laden:",
    "Am 05.03.24 um 14:20 schrieb Laden Hilfe:",
    "Laden <hilfe@laden.example> schrieb am Di., 5. März 2024, 14:20:",
    "\"Laden\" hilfe@laden.example – 5. März 2024 14:20 schrieb:",
    "----- Ursprüngliche Nachricht -----",
    "-------- Weitergeleitete Nachricht --------",
    "W dniu 05.03.2024 o 14:20, Sklep pisze:",
    "Il 05/03/2024 14:20, Negozio ha scritto:",
    "Il giorno mar 5 mar 2024 alle 14:20 Negozio <aiuto@negozio.example> ha scritto:",
    "El 05/03/2024 a las 14:20, Tienda escribió:",
    "El mar., 5 mar. 2024 14:20, Tienda <ayuda@tienda.example> escribió:",
    "Op 5-3-2024 om 14:20 schreef Winkel:",
    "Op di 5 mrt 2024 om 14:20 schreef Winkel <hulp@winkel.example>:",
    "Den 05.03.2024 14:20, skrev Butik:",
    "Den 5. marts 2024 kl. 14.20 skrev Butik <hjaelp@butik.example>:",
    "tirs. 5. mar. 2024 kl. 14.20 skrev Butik <hjaelp@butik.example>:",
    "Dne 05. 03. 24 v 14:20 Obchod napsal(a):",
    "út 5. 3. 2024 v 14:20 odesílatel Obchod <pomoc@obchod.example> napsal:",
    "ut 5. 3. 2024 o 14:20 Obchod <pomoc@obchod.example> napísal(a):",
    "05.03.2024 14:20, Магазин пишет:",
    "вт, 5 мар. 2024 г. в 14:20, Магазин <help@magazin.example>:",
    "Вторник, 5 марта 2024, 14:20 +03:00 от Магазин <help@magazin.example>:",
    "05.03.24 14:20, Крамниця пише:",
    "вт, 5 бер. 2024 р. о 14:20 Крамниця <help@kram.example> пише:",
    "На вт, 5.03.2024 г. в 14:20 Магазин <help@magazin.example> написа:",
    "2024.03.05. 14:20 keltezéssel, Bolt írta:",
    "Στις 5/3/2024 14:20, ο/η Μαγαζί έγραψε:",
    "5.03.2024 14:20 tarihinde Mağaza yazdı:",
    "Pe 05.03.2024 14:20, Magazin a scris:",
    "Le 05/03/2024 à 14:20, Boutique a écrit :",
    "Le mar. 5 mars 2024, 14:20, Boutique <aide@boutique.example> a écrit :",
    "Em ter, 5 de mar de 2024 14:20, Loja <ajuda@loja.example> escreveu:",
    "Em 05/03/2024 14:20, Loja escreveu:",
    "5.3.2024 14.20, Kauppa kirjoitti:",
    "uto, 5. ožu 2024. u 14:20 Trgovina <pomoc@trgovina.example> napisao je:",
    "Vào Th 3, 5 thg 3, 2024 vào lúc 14:20 Cửa hàng <giup@cuahang.example> đã viết:",
    "Pada tanggal Sel, 5 Mar 2024 pukul 14.20 Toko <bantuan@toko.example> menulis:",
    "在 2024/3/5 14:20, 客服 写道:",
    "客服 <help@dian.example> 于 2024年3月5日周二 下午2:20写道：",
    "On 2024/03/05 14:20, 店舗 wrote:",
    "2024年3月5日(火) 14:20、店舗 <help@mise.example>:",
    "2024-03-05 14:20에 상점 이(가) 쓴 글:",
    "2024년 3월 5일 (화) 14:20, 상점 <help@sangjeom.example>님이 작성:",
    "--------- 원본 메일 ---------",
    "---Original Message---",
    "---------- Mensaje reenviado ---------",
    "---------- Forwarded message ---------",
    "----- Messaggio originale -----",
    "-------- Oorspronkelijk bericht --------",
    "-------- Исходное сообщение --------",
    "------------------ 原始邮件 ------------------",
    "---------- 転送されたメッセージ ----------",
];

#[test]
fn headers_of_many_programs_begin_a_quote() {
    let mut wrong = String::new();
    for header in HEADERS {
        for old in ["> old words\n> more of them\n", "old words\n\nmore of them\n"] {
            let text = format!("Yes, please.\n\n{header}\n\n{old}");
            let got = split(&text);
            if got.new != "Yes, please." || got.quote_at != Some(14) {
                wrong.push_str(&format!("{header} + {:?}: {:?}\n", &old[..3], got.new));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Prose of customers that must not be taken for a header.
const PROSE: &[&str] = &[
    "On Tuesday your driver rang at 14:20 and left.\nI was at home.",
    "At 10:15 on 5 March 2024 I paid 20 EUR.\nHere is what your bank wrote to me: paid.",
    "On 5 March 2024 I wrote to you.\nNo answer since.",
    "On 5 March 2024 I wrote:\nplease cancel. Nobody did.",
    "Am 5.3.2024 um 10:00 schrieb ich:\nbitte stornieren. Nichts.",
    "2024年3月4日我写道：\n请退款。没有回复。",
    "You wrote:\nwe will call you. Nobody did.",
    "As Bob from desk@shop.example wrote, I may return it.\nHow?",
    "My details: Ann Poe <ann@poe.example>\nPlease change them.",
    "Please write to both of us: Bob <bob@roe.example>, Ann <ann@poe.example>:\nthank you.",
    "1. Open the box: done\n2. Plug it in: done\n3. It beeps: why?",
    "Arrival: 5.3.2024\nDeparture: 7.3.2024\nRooms: 2\nName: Ann Poe",
    "Von 10:00 bis 12:00 bin ich da:\nbitte klingeln.",
    "Am Montag, 4. März 2024 um 10:00 kam das Paket.\nEs war leer.",
    "Am 4.3. schrieb ich Ihnen bereits:\nKeine Antwort.",
    "Le 4 mars 2024 à 10:00 le colis est arrivé :\nil était vide.",
    "De: Lyon\nÀ: Paris\nDate : 5 mars\nCombien ?",
    "Il 4 marzo 2024 ho scritto al vostro servizio:\nnessuna risposta.",
    "El 4 de marzo de 2024 a las 10:00 llamé:\nnadie contestó.",
    "Em 4 de março de 2024 escrevi para vocês.\nSem resposta.",
    "Op 4 maart 2024 schreef ik u al.\nGeen antwoord.",
    "4 марта 2024 в 10:00 я вам писал.\nОтвета нет.",
    "2024年3月4日に注文しました。\nまだ届きません。",
    "我在2024年3月4日写道：请退款。\n没有回复。",
    "2024년 3월 4일에 주문했습니다.\n아직 안 왔어요.",
    "The serial number is 2024-03-05-1420:\nis it valid?",
    "Error at 14:20:11 in <app@3.2.1>:\nwhat now?",
    "From: the first day it was broken.\nTo: be clear, I want my money back.",
    "Subject to your answer I keep it.\nDate of purchase: 4.3.2024",
    "Sent: yes. Received: no.\nWhat now?",
    "I sent this from my phone.\nIs that all right?",
    "Get Outlook for iOS to work, please!\nIt crashes.",
    "Best regards to your colleague Bob, he was great.\nStill, I want to return it.",
    "Thank you,\nbut it is still broken. What can I do now?",
    "Thanks\n\nIt works now.",
    "Danke,\nes geht wieder.",
    "Gruß an Ihre Kollegin!\nDie Lampe geht wieder.",
    "-5 degrees is too cold for it?\n-Yes or no",
    "My wifi key is\n--\nabc-123-def-456 and it is not accepted by the router anymore.",
    "Size: M\nColour: Blue\nName on the shirt: BOB",
    "Bob Roe\n1 High Street\nLeeds\n\nThat is the new address, please use it from now on.",
];

#[test]
fn prose_is_no_header() {
    let wrong: Vec<_> = PROSE.iter().filter(|text| split(text).new != **text).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
