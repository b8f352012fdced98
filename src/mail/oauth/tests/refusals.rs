//! The refusals that Google and Microsoft are documented to send, and what is made of them.

use super::*;

/// An error of Microsoft's in its documented shape, with an address in the text that must not come out again.
fn microsoft(error: &str, number: u64, words: &str) -> String {
    json!({
        "error": error,
        "error_description": format!(
            "AADSTS{number}: {words} CANARY@shop.example\r\nTrace ID: 0a0a0a0a-0000\r\nTimestamp: 2026-03-02 10:00:00Z"
        ),
        "error_codes": [number],
        "timestamp": "2026-03-02 10:00:00Z",
        "trace_id": "0a0a0a0a-0000",
        "correlation_id": "0b0b0b0b-0000",
        "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
        "suberror": "bad_token"
    })
    .to_string()
}

fn google(error: &str, description: &str) -> String {
    json!({ "error": error, "error_description": description }).to_string()
}

#[test]
fn refusals_are_judged_and_told() {
    use Kind::{Permanent as P, Temporary as T};
    let m = microsoft;
    let table: Vec<(u16, String, Kind, &str)> = vec![
        (400, m("invalid_grant", 700_082, "The refresh token has expired due to inactivity."), P, "90 days"),
        (400, m("invalid_grant", 700_084, "The refresh token was issued to a single page app."), P, "has ended"),
        (400, m("invalid_grant", 50_173, "The provided grant has expired due to it being revoked."), P, "was revoked"),
        (400, m("invalid_grant", 70_043, "The refresh token is invalid due to sign-in frequency."), P, "frequency"),
        (400, m("interaction_required", 50_076, "You must use multi-factor authentication."), P, "second factor"),
        (400, m("invalid_grant", 50_079, "The user is required to use multi-factor."), P, "second factor"),
        (400, m("interaction_required", 53_003, "Blocked by Conditional Access."), P, "access rules"),
        (400, m("invalid_grant", 50_057, "The user account is disabled."), P, "disabled"),
        (400, m("invalid_grant", 50_034, "The user account does not exist in the directory."), P, "does not know"),
        (400, m("invalid_grant", 65_001, "The user or administrator has not consented."), P, "consent"),
        (401, m("invalid_client", 7_000_222, "The provided client secret keys are expired."), P, "secret has ended"),
        (401, m("invalid_client", 7_000_215, "Invalid client secret provided."), P, "value (not its id)"),
        (401, m("invalid_client", 700_025, "Client is public."), P, "configure none"),
        (400, m("unauthorized_client", 700_016, "Application was not found in the directory."), P, "client id"),
        (400, m("invalid_request", 90_002, "Tenant not found."), P, "tenant"),
        (400, m("invalid_scope", 70_011, "The scope is not valid."), P, ".default"),
        (400, m("invalid_scope", 1_002_012, "Client credential flows must have a .default scope."), P, ".default"),
        (400, m("invalid_request", 9_001_023, "Not supported over the /common endpoint."), P, "own tenant"),
        (400, m("invalid_grant", 50_196, "A client request loop was detected."), T, "too often"),
        (400, m("temporarily_unavailable", 90_033, "A transient error has occurred."), T, "cannot answer now"),
        (400, m("invalid_grant", 90_055, "There are too many incoming requests."), T, "cannot answer now"),
        (503, m("temporarily_unavailable", 90_006, "The service is unavailable."), T, "HTTP 503"),
        (400, m("invalid_grant", 99_999_999, "Something of tomorrow."), P, "(invalid_grant, AADSTS99999999)"),
        (400, google("invalid_grant", "Token has been expired or revoked."), P, "Testing"),
        (400, google("invalid_grant", "Bad Request"), P, "sign in again"),
        (400, google("invalid_grant", "Account has been deleted"), P, "does not know the mailbox"),
        (400, google("invalid_grant", "Invalid JWT Signature."), P, "key"),
        (400, google("invalid_grant", "Invalid grant: account not found"), P, "key"),
        (400, google("invalid_grant", "Invalid email or User ID"), P, "mailbox"),
        (
            400,
            google("invalid_grant", "Invalid JWT: Token must be a short-lived token and in a reasonable timeframe."),
            T,
            "clock",
        ),
        (400, r#"{"error":"invalid_grant","error_subtype":"invalid_rapt"}"#.to_owned(), P, "session control"),
        (401, google("unauthorized_client", "Client is unauthorized to retrieve access tokens."), P, "domain-wide"),
        (401, google("invalid_client", "The OAuth client was not found."), P, "client id and secret"),
        (401, google("deleted_client", "The OAuth client was deleted."), P, "disabled"),
        (400, google("invalid_scope", "Bad scopes."), P, "mail.google.com"),
        (400, google("admin_policy_enforced", "Restricted."), P, "administrator"),
        (400, r#"{"error":"internal_failure"}"#.to_owned(), T, "cannot answer now"),
        (500, r#"{"error":"internal_failure"}"#.to_owned(), T, "HTTP 500"),
        (403, r#"{"error":{"code":403,"message":"x","status":"RESOURCE_EXHAUSTED"}}"#.to_owned(), T, "exhausted"),
        (403, "<html>We're sorry, automated queries</html>".to_owned(), T, "HTTP 403"),
        (429, String::new(), T, "HTTP 429"),
        (502, "<html>Error 502</html>".to_owned(), T, "HTTP 502"),
        (404, "<html>Not found</html>".to_owned(), P, "token URL"),
        (302, String::new(), P, "token URL"),
        (401, String::new(), P, "client id"),
        (400, r#"{"error":"teapot_required"}"#.to_owned(), P, "(teapot_required)"),
        (400, r#"{"error":"1//CANARY"}"#.to_owned(), P, "(unreadable)"),
        // As it came before error_codes was there.
        (400, r#"{"error":"x","error_description":"AADSTS70002: no. AADSTS50012: no."}"#.to_owned(), P, "AADSTS70002"),
    ];
    for (status, body, kind, part) in table {
        let refused = read(&answer(status, &body), NOW).unwrap_err();
        assert_eq!(refused.kind, kind, "{body}");
        assert!(refused.words.contains(part), "{body}: {}", refused.words);
        assert!(!refused.words.contains("CANARY") && refused.words.len() < 400, "{}", refused.words);
        assert!(!refused.words.ends_with("()"), "{}", refused.words);
    }
}

#[test]
fn the_endpoints_wish_is_passed_on() {
    let wish = |status, body: &str| {
        read(&Answer { retry_after: Some(17), ..answer(status, body) }, NOW).unwrap_err().retry_after
    };
    assert_eq!(wish(429, ""), Some(17));
    assert_eq!(wish(400, r#"{"error":"invalid_grant"}"#), None);
    assert_eq!(wish(400, &microsoft("invalid_grant", 50_196, "Loop.")), Some(17));
    let own = read(&answer(400, microsoft("invalid_grant", 50_196, "Loop.")), NOW).unwrap_err();
    assert_eq!(own.retry_after, Some(300));
}
