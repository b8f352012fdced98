//! How the subjects of automatic answers begin, in the languages of the common mail programs.
//!
//! A subject is compared from its beginning only, so that a person's `Re: Automatic reply: ...` stays a person's mail.

/// Beginnings, in lower case, that say the sender is away. The first words are those that mail programs write by
/// themselves.
const AWAY: [&str; 52] = [
    "out of office",
    "out of the office",
    "out-of-office",
    "ooo:",
    "away from my mail",
    "away from the office",
    "on vacation",
    "vacation reply",
    "i am away",
    "i am out of",
    "abwesenheit",
    "abwesend",
    "außer haus",
    "nicht im büro",
    "im urlaub",
    "absence du bureau",
    "absent du bureau",
    "en congé",
    "message d'absence",
    "notification d'absence",
    "fuera de la oficina",
    "fuera de oficina",
    "ausencia",
    "fora do escritório",
    "ausência",
    "fuori sede",
    "fuori ufficio",
    "assente dall'ufficio",
    "afwezig",
    "niet aanwezig",
    "niet op kantoor",
    "frånvaro",
    "ej på kontoret",
    "fravær",
    "ikke til stede",
    "ikke på kontoret",
    "poissa",
    "poza biurem",
    "nieobecność",
    "nieobecnosc",
    "mimo kancelář",
    "nepřítomnost",
    "mimo kancelárie",
    "házon kívül",
    "în afara biroului",
    "отсутствую",
    "вне офиса",
    "ofis dışında",
    "外出",
    "不在",
    "休暇",
    "부재중",
];

/// Beginnings, in lower case, that say only that a program answers.
const ANSWER: [&str; 48] = [
    "automatic reply",
    "automated reply",
    "automated response",
    "automatic response",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto response",
    "auto-response",
    "autoresponse",
    "auto:",
    "automatische antwort",
    "automatische rückantwort",
    "autoantwort",
    "auto-antwort",
    "réponse automatique",
    "reponse automatique",
    "réponse auto",
    "respuesta automática",
    "respuesta automatica",
    "resposta automática",
    "resposta automatica",
    "risposta automatica",
    "automatisch antwoord",
    "automatische reactie",
    "autosvar",
    "automatiskt svar",
    "automatisk svar",
    "automaattinen vastaus",
    "automaatvastus",
    "odpowiedź automatyczna",
    "automatyczna odpowiedź",
    "autoodpowiedź",
    "automatická odpověď",
    "automatická odpoveď",
    "automatikus válasz",
    "răspuns automat",
    "raspuns automat",
    "автоматический ответ",
    "автоответ",
    "автоматична відповідь",
    "otomatik yanıt",
    "otomatik cevap",
    "αυτόματη απάντηση",
    "自動応答",
    "自動返信",
    "自动答复",
    "자동 회신",
];

/// More beginnings of either kind that hold no letters with case.
const ANSWER_MORE: [&str; 5] = ["自动回复", "自動回覆", "자동 응답", "رد تلقائي", "תשובה אוטומטית"];

/// What a subject says of an automatic answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The sender is away.
    Away,
    /// A program answered.
    Answer,
}

/// What the decoded `subject` says, if it begins like an automatic answer's. Only its first 100 characters are read.
pub(super) fn told(subject: &str) -> Option<Told> {
    let opened = |c: char| c.is_whitespace() || matches!(c, '[' | '(' | '*' | '"' | '„' | '“' | '【' | '<');
    let start: String = subject.trim_start_matches(opened).chars().take(100).flat_map(char::to_lowercase).collect();
    // Typographic apostrophes are common in French.
    let start = start.replace('\u{2019}', "'");
    if AWAY.iter().any(|words| start.starts_with(words)) {
        return Some(Told::Away);
    }
    ANSWER.iter().chain(&ANSWER_MORE).any(|words| start.starts_with(words)).then_some(Told::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_in_many_languages_are_known() {
        for away in ["Out of Office: back on Monday", "Abwesenheitsnotiz: Angebot", "Absence du bureau", "【不在】"]
        {
            assert_eq!(told(away), Some(Told::Away), "{away}");
        }
        let answers = [
            "Automatic reply: your order",
            "AUTOMATISCHE ANTWORT: Rechnung",
            "Réponse automatique : devis",
            "Respuesta automática: pedido",
            "Resposta automática: pedido",
            "Risposta automatica: ordine",
            "Automatisch antwoord: factuur",
            "Automatiskt svar: order",
            "Automatisk svar: ordre",
            "Automaattinen vastaus: tilaus",
            "Odpowiedź automatyczna: zamówienie",
            "Automatická odpověď: objednávka",
            "Automatikus válasz: rendelés",
            "Автоматический ответ: заказ",
            "Otomatik yanıt: sipariş",
            "自动回复: 订单",
            "自動応答: 注文",
            "자동 회신: 주문",
        ];
        for answer in answers {
            assert_eq!(told(answer), Some(Told::Answer), "{answer}");
        }
    }

    #[test]
    fn a_person_who_speaks_of_one_is_not_one() {
        let persons = ["Re: Automatic reply: your order", "My colleague is out of office", "Bus on vacation days", ""];
        assert!(persons.iter().all(|subject| told(subject).is_none()));
    }
}
