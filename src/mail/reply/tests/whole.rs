//! Texts that must stay whole.

use super::super::split_from;

/// Texts in which nothing is quoted and nothing is a signature.
const WHOLE: &[&str] = &[
    "I am looking for a flight\nFrom: Berlin\nTo: Paris\nDate: 5 May 2024\n\nPlease send prices.",
    "My address is:\nAnn Poe\n5 Main Street\n555-0100-200\nann@poe.example",
    "Thanks,\nAnn",
    "On Monday at 10:30 I called you, and your colleague wrote down my number.\nNobody called back.",
    "On 5 March 2024 I ordered a lamp.\nIt never came.",
    "Am 5.3.2024 um 14:20 schrieb mir Ihre Kollegin folgendes:\nIch bekomme 20 Euro zurück.\nStimmt das?",
    "Von meinem Handy geht es nicht.",
    "Sent from Berlin on Monday, the parcel is still not here.",
    "I tried three things:\n- Restart\n- Update\n- Reset",
    "What I need:\n- Anna\n- Bob\n- Carl",
    "Subject: is it possible to return this?\n\nI bought it last week.",
    "To: be honest, I do not like it.",
    "The error was:\n```\nFrom: a@b.example\nSubject: x\nSent: today\n```\nCan you help?",
    "Best before date is wrong on the pack.",
    "Regards the invoice: it is wrong.",
    "Cheers for that, works now!",
    "Hello\n\n-----\n\nFirst I did this, and then the whole thing stopped working at once.\n\n-----\n\nThen nothing.",
    "Price | Amount\n----- | ------\n10 | 2",
    "El 5 de marzo de 2024 compré una silla.\nNo ha llegado.",
    "Le 5 mars 2024, j'ai écrit à votre service.\nPas de réponse.",
    "MfG ist eine Abkürzung, oder?",
    "Hi Ann,\n\nplease call me at 10:30: I have time until then.\n\nCan you?",
    "I wrote to help@shop.example at 10:30 and nobody answered:\nplease look.",
    "Von: Hamburg\nNach: München\nDatum: 5.3.2024\nWas kostet das?",
    "2024-03-05 10:12 ERROR mailer: failed for <ann@poe.example> with code:\n550\nWhat now?",
    "Date: 5 March 2024\nOrder: 4711\nTo: 5 Main Street\nplease deliver",
    "It does not start.\n\nThis message says that the disk is confidential. What now?",
    "It does not start.\n\nThis virus-free stick was sold to me as new.",
    "The contract?\nSent via mail yesterday.\nPlease check.",
    "The travellers are\nBob Roe\nAnn Poe",
    "I still need\n\n-Handbook",
    "- Original message was in English\n- The answer was not",
    "These are the parts\n--\nThe first one is broken and I would like to have it exchanged soon.\n--\nThe second one is fine.",
    "Your message\n  To: ann@poe.example\n  Subject: x\n  Sent: 5.3.2024\ndid not reach her.",
    "5.2.1 <ann@poe.example>... unknown\n\"bob@roe.example\":\nWhat does this mean?",
    "----------------\nA Heading\n\nTo my surprise it works.",
    "In your mail of 5.3.2024 you gave me this address (help@shop.example):\nnobody answers there.",
    "On 5.3.2024 I got this link from you (help@shop.example):\nit does not work.",
    "Am 5.3.2024 schrieb mir Ihr Team (help@shop.example) folgendes:\nIch bekomme 20 Euro.",
    "How it was sent?\n\nSent via mail yesterday.",
    "私は iPhone を使っています。\nよろしくお願いします。助けてください",
    "在北京 2024年3月5日 14:20 我下了订单：\n还没收到。",
];

#[test]
fn text_without_quotes_stays_whole() {
    for text in WHOLE {
        let got = split_from(text, Some("Ann Poe"));
        assert_eq!(got.new, *text);
        assert_eq!((got.signature, got.quote_at, got.interleaved), (None, None, false), "{text}");
    }
}
