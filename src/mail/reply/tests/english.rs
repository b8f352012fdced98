//! Own samples in English.

use super::{Sample, check};

const SAMPLES: &[Sample] = &[
    (
        "gmail web",
        None,
        "Blue, please.\n\nOn Tue, Mar 5, 2024 at 2:20 PM Shop Desk <desk@shop.example> wrote:\n\n> Which colour?\n>\n",
        "Blue, please.",
        "",
    ),
    (
        "gmail web, header wrapped in the name, narrow blank before PM",
        None,
        "It arrived broken.\r\n\r\nOn Tue, Mar 5, 2024 at 2:20\u{202f}PM The Very Long Named Customer Desk of Shop\r\n<desk@shop.example> wrote:\r\n\r\n> Did it arrive?\r\n",
        "It arrived broken.",
        "",
    ),
    (
        "gmail phone, reply glued to the header",
        None,
        "Yes\nOn Tue, 5 Mar 2024, 14:20 Shop Desk, <desk@shop.example> wrote:\n\n> Still there?\n",
        "Yes",
        "",
    ),
    (
        "outlook web, short rule",
        Some("Ann Poe"),
        "Order 4711, thanks.\n\nAnn Poe\n\n________________________________\nFrom: Shop Desk <desk@shop.example>\nSent: Tuesday, March 5, 2024 2:20 PM\nTo: Ann Poe <ann@poe.example>\nSubject: Your order\n\nWhich order is it?\n",
        "Order 4711, thanks.",
        "Ann Poe",
    ),
    (
        "outlook desktop, rich signature",
        Some("Poe, Ann"),
        "Please cancel.\n\nKind regards,\n\nAnn Poe\nHead of Purchasing | Poe & Sons Ltd\nT +44 20 7946 0018 | M +44 7700 900123\nwww.poe.example\n\nFrom: Shop Desk <desk@shop.example> \nSent: 05 March 2024 14:20\nTo: Ann Poe <ann@poe.example>; Bob <bob@poe.example>\nCc: Carl\nSubject: RE: Your order\nImportance: High\n\nHello Ann\n",
        "Please cancel.",
        "Kind regards,\n\nAnn Poe\nHead of Purchasing | Poe & Sons Ltd\nT +44 20 7946 0018 | M +44 7700 900123\nwww.poe.example",
    ),
    (
        "outlook for iOS",
        None,
        "Will do\n\nGet Outlook for iOS<https://aka.ms/x>\n________________________________\nFrom: Desk <desk@shop.example>\nSent: Tuesday, March 5, 2024 2:20:11 PM\nTo: Ann <ann@poe.example>\nSubject: Re: Parcel\n\nPlease send a photo.\n",
        "Will do",
        "Get Outlook for iOS<https://aka.ms/x>",
    ),
    (
        "apple mail, answers between",
        None,
        "See below.\n\n> On 5 Mar 2024, at 14:20, Shop Desk <desk@shop.example> wrote:\n> \n> Which size?\n\nLarge.\n\n> Which colour?\n\nRed.\n",
        "See below.\n\nLarge.\n\nRed.",
        "",
    ),
    (
        "iPhone mail",
        None,
        "Thanks, got it!\n\nSent from my iPhone\n\n> On 5 Mar 2024, at 14:20, Desk <desk@shop.example> wrote:\n> \n> \u{feff}Hello\n",
        "Thanks, got it!",
        "Sent from my iPhone",
    ),
    (
        "yahoo web",
        None,
        "No, not yet.\n\n    On Tuesday, March 5, 2024 at 02:20:11 PM GMT+1, Shop Desk <desk@shop.example> wrote:  \n \n Did it come?\n",
        "No, not yet.",
        "",
    ),
    (
        "yahoo phone",
        None,
        "No, not yet.\n\nSent from Yahoo Mail on Android \n \n  On Tue, Mar 5, 2024 at 2:20 PM, Shop Desk<desk@shop.example> wrote:   Did it come?  ",
        "No, not yet.",
        "Sent from Yahoo Mail on Android",
    ),
    (
        "samsung",
        None,
        "Tomorrow is fine\n\n\nSent from my Galaxy\n\n\n-------- Original message --------\nFrom: Desk <desk@shop.example>\nDate: 05/03/2024 14:20 (GMT+00:00)\nTo: ann@poe.example\nSubject: Delivery\n\nWhen?\n",
        "Tomorrow is fine",
        "Sent from my Galaxy",
    ),
    (
        "thunderbird, answer below and delimiter",
        None,
        "On 05/03/2024 14:20, Desk wrote:\n> Which door?\n\nThe back door.\n\n-- \nAnn Poe\nPoe & Sons\n",
        "The back door.",
        "--\nAnn Poe\nPoe & Sons",
    ),
    (
        "proton",
        None,
        "Looks good.\n\nSent with Proton Mail secure email.\n\nOn Tuesday, 5 March 2024 at 14:20, Desk <desk@shop.example> wrote:\n\n> Please check\n",
        "Looks good.",
        "Sent with Proton Mail secure email.",
    ),
    (
        "forward with a word of its own",
        None,
        "What is this?\n\n---------- Forwarded message ---------\nFrom: Bank <no-reply@bank.example>\nDate: Tue, Mar 5, 2024 at 2:20 PM\nSubject: Invoice\nTo: <ann@poe.example>\n\nPay now\n",
        "What is this?",
        "",
    ),
    (
        "apple forward",
        None,
        "FYI\n\nBegin forwarded message:\n\n> From: Desk <desk@shop.example>\n> Subject: Offer\n> Date: 5 March 2024 at 14:20:00 GMT\n> To: ann@poe.example\n> \n> Ten percent\n",
        "FYI",
        "",
    ),
    (
        "first name of the sender",
        Some("Ann Poe"),
        "Can I still return it?\n\nAnn\n\nOn Tue, Mar 5, 2024 at 2:20 PM Desk <desk@shop.example> wrote:\n> Hi\n",
        "Can I still return it?",
        "Ann",
    ),
    (
        "closing words and name in one line",
        None,
        "Can I still return it?\nBest regards, Ann\n",
        "Can I still return it?",
        "Best regards, Ann",
    ),
    (
        "windows mail on a new line after text",
        None,
        "Ok.\n\nSent from Mail for Windows\n\nFrom: Desk\nSent: Tuesday, March 5, 2024 2:20 PM\nTo: ann@poe.example\nSubject: Door\n\nWhich?\n",
        "Ok.",
        "Sent from Mail for Windows",
    ),
    (
        "bold field names of a rendered html mail",
        None,
        "Ok.\n\n**From:** Desk <desk@shop.example>\n**Date:** Tuesday, 5 March 2024 at 14:20\n**To:** Ann\n**Subject:** Door\n\nWhich?\n",
        "Ok.",
        "",
    ),
    (
        "old text in the line of its header",
        None,
        "No, not yet.\n\n On Tue, Mar 5, 2024 at 2:20 PM, Shop Desk<desk@shop.example> wrote:   Did it come?\n\nWe sent it.\n",
        "No, not yet.",
        "",
    ),
    (
        "last name first",
        Some("Poe, Ann"),
        "Not yet, sorry.\n\nAnn Poe\n\nFrom: Desk <desk@shop.example>\nSent: today\nSubject: x\n\nold",
        "Not yet, sorry.",
        "Ann Poe",
    ),
    (
        "zendesk style marker",
        None,
        "Still broken.\n\nOn Tue, Mar 5, 2024 at 2:20 PM Desk (Shop) <desk@shop.example> wrote:\n\n> ##- Please type your reply above this line -##\n> Hello\n",
        "Still broken.",
        "",
    ),
];

#[test]
fn replies_in_english_are_told_apart() {
    check(SAMPLES);
}
