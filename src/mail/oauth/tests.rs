//! Requests field by field, statements verified, tokens read.

mod refusals;

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use proptest::prelude::*;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;

/// A key made for these tests alone, PKCS #8.
const KEY: &str = "\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC8mO4JNL1OW8gJIUBz8zpOiLHhIkYqJeWdS8coSjl3H/ZtHgwL\
    L4/QoJs+oTqqdfLVqKBvGA8XUGujjaOiQePpLl8kbGimVnNZ0tb48GG1cZlgF5umDRPFf3J1plJ7WQcIjq9o2VPWSXU7oWhbQwLc\
    8heBdw25lyWN3IwgiPhjdLT/8HQ5UO5TIrE2cfnnW75JpoAdJIgEJjl6Q7CP2DLfHUiKSuUw9fQWkHcMj4qyig9dOj0B0OZ0V3Iw\
    Eud9HXh9NZ+G9YzEQr4DfUdo84yMrIJhJbKVTVeg+I9zMkmEDvAko/6lEDTWxCkxGia+mV0quhf65rUstSu+h+TpXc8LAgMBAAEC\
    ggEAFyyfi0gMvvUuNlj8p4LKtl27pdNlVcaEWXi3Ry8fspCd4jif+Dvm6xbhHKgJImsN5M0ssZn+OLosD9PWuJhqHfwRutMLZO0Y\
    jYAH5Fz9VKNZ2mHsQVI4DLulX+mJFxkQcS+/RB34XEt4eVRTE2u/jVC+LK1pZVW6Sp1AJrtN8kJt3LpqsuI0tlsAchA8t/Z8ueew\
    oCXDGWdDjhrAkbz9UidD4vgsQ5ySTGbNEuS70CsC4FAqid0HIbI9SBRmsc/0zLnR0+RxEyc099ZW58Jmyv6b540Xm0DXQgrK84pN\
    LeMHn1npbuG+e0M4Pjt56a8XaAmgzmQsfGXOBaKj/omecQKBgQDrz5pgCBf55+0Q+QAO6v5ijA+d3rFfojTEOpbnUC9OZwWS0pRt\
    OVzpZ8TtMV+q4k1Rx1xMbSVyJUROP/GQuxYivL6v7AhZ4LLeL38Jpb4Y7HVVHQ4DyXIOK5BvLg+uAdnBLRMqG++Rz9ScNJr3914F\
    B7sWiFfTjJP/zAM+9gBRAwKBgQDMvoV2mkoaIoxKR4hF1WJkFrawJiaBc4LdMDcs/PrHsfZkrdMKNIsWy5/4z5cKSYT29HiJS8pa\
    kXiUv5kQn6zoDoUIaPoTFKLJAH0OreZv/UAUwFNYsxw3Z+0qNaVNda0Trfzz6xjF9qMlDWrtov3ke5eRY6ZIQVssiY9vxp43WQKB\
    gB1ZmJBNUZakPEh5hX1V2FWxsxvmJNOPX9vwoumlfE3Y2sO8fAbgNeVDKiqPk6W0RwVft+g3SYrcgpTutoVaE9Y9AcrpqNxu8DRh\
    WwF7ZJ67h5sRY7Yq84w59d8wr3jr+AtoLdN26KmQYZkTnxov6r7biHi0faHyBFW5Mco7Wiy7AoGACXW0DOrMCbEW8kej0DYvuZgj\
    ELhyhwCjRzz3D6kQnTFnxPcTDSGoW4FE/uX4gI0tC4v4Fb/etZiLDbRcihwWjRI+q0jOZRtK+iZ/oLIAN6Rn1Y2dTDfaUeUHXC/m\
    V1HckVA0o8B1AJCIsSmRizFAsdHUCu+juyrp34Drk6qFnOECgYEAjBsFouXyOUF7sp9CK0qVNRj8qsWg6cLQlQDjSHUPf0sWcCa2\
    pd6rNzxaM99fN88AOsnNN1QEMOXIE73N2bRHUTqiZhyHmVKfmY7QzZrv+XYnOjry0yl8aYhmSEovsIBY9i9IsG/W62CJa2KSYjOy\
    /YzPnXbN82kctUVjv5MDUX4=\
";

const NOW: u64 = 1_772_445_600;

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn settings(grant: Grant) -> Settings {
    Settings {
        token_url: "https://login.example/tenant/token".to_owned(),
        client_id: "client 7".to_owned(),
        client_secret: Some(secret("s&=+%~1")),
        scope: Some("https://mail.example/a https://mail.example/b".to_owned()),
        grant,
        secret_expires: None,
    }
}

fn by_refresh() -> Settings {
    settings(Grant::RefreshToken { token: secret("1//refresh+token") })
}

fn by_account(key: &str) -> Settings {
    settings(Grant::ServiceAccount { key: secret(key), subject: "support@shop.example".to_owned() })
}

fn fields(body: &[u8]) -> BTreeMap<String, String> {
    let all: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    let map: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(map.len(), all.len(), "no field twice");
    map
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn answer(status: u16, body: impl AsRef<[u8]>) -> Answer {
    Answer { status, retry_after: None, body: Zeroizing::new(body.as_ref().to_vec()) }
}

#[test]
fn a_refresh_sends_these_fields_and_no_others() {
    let scope = "https://mail.example/a https://mail.example/b";
    let common = [("client_id", "client 7"), ("client_secret", "s&=+%~1"), ("scope", scope)];
    let mut want = expected(&common);
    want.extend(expected(&[("grant_type", "refresh_token"), ("refresh_token", "1//refresh+token")]));
    assert_eq!(fields(&by_refresh().request(None, NOW).unwrap()), want);

    want.extend(expected(&[("refresh_token", "newer")]));
    assert_eq!(fields(&by_refresh().request(Some("newer"), NOW).unwrap()), want);

    let public = Settings { client_secret: None, scope: None, ..by_refresh() };
    want.remove("client_secret");
    want.remove("scope");
    assert_eq!(fields(&public.request(Some("newer"), NOW).unwrap()), want);
}

#[test]
fn client_credentials_send_these_fields_and_no_others() {
    let mut own = settings(Grant::ClientCredentials);
    own.scope = Some("https://outlook.office365.com/.default".to_owned());
    let body = own.request(None, NOW).unwrap();
    let want = [
        ("grant_type", "client_credentials"),
        ("client_id", "client 7"),
        ("client_secret", "s&=+%~1"),
        ("scope", "https://outlook.office365.com/.default"),
    ];
    assert_eq!(fields(&body), expected(&want));
    assert!(body.is_ascii() && !body.contains(&b' '));
}

/// The key in all the forms in which people have it.
fn keys() -> Vec<String> {
    let lines = |text: &str, end: &str| {
        text.as_bytes().chunks(64).fold(String::new(), |all, line| all + std::str::from_utf8(line).unwrap() + end)
    };
    // In PKCS #8 the key of PKCS #1 stands behind 26 bytes.
    let inner = BASE64.encode(&BASE64.decode(KEY.as_bytes()).unwrap()[26..]);
    let pem = |label: &str, text: &str, end: &str| {
        format!("-----BEGIN {label}-----{end}{}-----END {label}-----{end}", lines(text, end))
    };
    vec![
        KEY.to_owned(),
        pem("PRIVATE KEY", KEY, "\n"),
        pem("PRIVATE KEY", KEY, "\r\n"),
        pem("PRIVATE KEY", KEY, "\\n"),
        pem("RSA PRIVATE KEY", &inner, "\n"),
    ]
}

#[test]
fn a_service_account_signs_what_google_wants() {
    for key in keys() {
        let own = by_account(&key);
        assert_eq!(own.check(), Ok(()));
        let all = fields(&own.request(None, NOW).unwrap());
        assert_eq!(all.keys().collect::<Vec<_>>(), ["assertion", "grant_type"]);
        assert_eq!(all["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");

        let (message, signature) = all["assertion"].rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let pair = assertion::key_pair(&key).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
        public.verify(message.as_bytes(), &signature).unwrap();
        assert!(public.verify(&message.as_bytes()[1..], &signature).is_err());

        let parts: Vec<Value> = message
            .split('.')
            .map(|part| serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0], json!({ "alg": "RS256", "typ": "JWT" }));
        let claims = json!({
            "iss": "client 7",
            "sub": "support@shop.example",
            "scope": "https://mail.example/a https://mail.example/b",
            "aud": "https://login.example/tenant/token",
            "iat": NOW - 30,
            "exp": NOW - 30 + 3600,
        });
        assert_eq!(parts[1], claims);
        // The same in, the same out.
        assert_eq!(fields(&own.request(None, NOW).unwrap()), all);
    }
}

#[test]
fn keys_of_no_use_are_told() {
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    let long = "A".repeat(20_000);
    for key in ["", "no key", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----AAAA", locked, &KEY[..400], &long] {
        let refused = by_account(key).request(None, NOW).unwrap_err();
        assert_eq!(refused.kind, Kind::Permanent);
        assert!(refused.words.contains("key"), "{}", refused.words);
        assert!(by_account(key).check().is_err());
    }
    assert!(by_account(locked).check().unwrap_err().contains("passphrase"));
}

#[test]
fn settings_are_checked() {
    let at = |url: &str| Settings { token_url: url.to_owned(), ..by_refresh() }.check();
    for good in ["https://a.example/t", "http://127.0.0.1:80/t", "http://localhost/t", "http://[::1]/t"] {
        assert_eq!(at(good), Ok(()), "{good}");
    }
    for bad in ["", "a.example", "http://a.example/t", "ftp://localhost/t", "http://10.0.0.1/t", "data:x"] {
        assert!(at(bad).is_err(), "{bad}");
    }
    assert!(Settings { client_id: String::new(), ..by_refresh() }.check().is_err());
    assert!(settings(Grant::RefreshToken { token: secret("") }).check().is_err());
    assert!(Settings { client_secret: None, ..settings(Grant::ClientCredentials) }.check().is_err());
    assert!(Settings { scope: None, ..settings(Grant::ClientCredentials) }.check().is_err());
    assert!(Settings { scope: None, ..by_refresh() }.check().is_ok());
}

#[test]
fn a_refresh_token_belongs_to_endpoint_client_and_sign_in() {
    let own = by_refresh().origin();
    let other_secret = Settings { client_secret: None, scope: None, secret_expires: Some(1), ..by_refresh() };
    assert_eq!(other_secret.origin(), own);
    assert_ne!(Settings { client_id: "other".into(), ..by_refresh() }.origin(), own);
    assert_ne!(Settings { token_url: "https://other.example".into(), ..by_refresh() }.origin(), own);
    assert_ne!(settings(Grant::RefreshToken { token: secret("new sign-in") }).origin(), own);
}

#[test]
fn nothing_secret_shows() {
    let told = json!({ "access_token": "CANARY", "refresh_token": "CANARY" }).to_string();
    let token = read(&answer(200, &told), NOW).unwrap();
    let own = Settings {
        client_id: "CANARY".into(),
        client_secret: Some(secret("CANARY")),
        ..settings(Grant::RefreshToken { token: secret("CANARY") })
    };
    let account = Grant::ServiceAccount { key: secret("CANARY"), subject: "CANARY".into() };
    let shown = format!("{token:?} {own:?} {account:?} {:?}", answer(200, &told));
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn tokens_are_read() {
    let read = |body: Value| read(&answer(200, body.to_string()), NOW).unwrap();
    // Google, by refresh token: no new one.
    let google = read(json!({
        "access_token": "ya29.a0Af", "expires_in": 3599, "scope": "https://mail.google.com/", "token_type": "Bearer"
    }));
    assert_eq!((google.access.as_str(), google.expires_at), ("ya29.a0Af", NOW + 3599));
    assert!(google.rotated_refresh.is_none() && google.refresh_expires_at.is_none());
    // Google, an app in testing.
    let testing = read(json!({
        "access_token": "ya29.a0Af", "expires_in": 3599, "refresh_token_expires_in": 604_799, "token_type": "Bearer"
    }));
    assert_eq!(testing.refresh_expires_at, Some(NOW + 604_799));
    // Microsoft, by refresh token: always a new one.
    let microsoft = read(json!({
        "token_type": "Bearer", "scope": "https://outlook.office.com/IMAP.AccessAsUser.All", "expires_in": 4742,
        "ext_expires_in": 4742, "access_token": "eyJ0eXAi.x.y", "refresh_token": "0.AXoA-new", "id_token": "a.b.c"
    }));
    assert_eq!(microsoft.rotated_refresh.unwrap().as_str(), "0.AXoA-new");
    assert_eq!(microsoft.expires_at, NOW + 4742);
    // Microsoft's older endpoint: numbers as strings.
    let older =
        read(json!({ "token_type": "bearer", "expires_in": "3599", "access_token": "eyJ0", "refresh_token": "" }));
    assert_eq!((older.expires_at, older.rotated_refresh.is_none()), (NOW + 3599, true));
    // Keycloak: an offline token never ends.
    let keycloak =
        read(json!({ "access_token": "a", "expires_in": 60, "refresh_expires_in": 0, "refresh_token": "b" }));
    assert_eq!(keycloak.refresh_expires_at, None);
    // The draft: the permission counts, not how long a refresh token may lie about.
    let draft = read(json!({
        "access_token": "a", "refresh_token_timeout": 604_800, "authorization_expires_in": 1_987_200
    }));
    assert_eq!((draft.expires_at, draft.refresh_expires_at), (NOW + 1800, Some(NOW + 1_987_200)));
    // Odd lives.
    for (life, taken) in
        [(json!(0), 1800), (json!(-5), 1800), (json!(null), 1800), (json!(59.9), 59), (json!([1]), 1800)]
    {
        assert_eq!(read(json!({ "access_token": "a", "expires_in": life })).expires_at, NOW + taken);
    }
    assert_eq!(read(json!({ "access_token": "a", "expires_in": u64::MAX })).expires_at, NOW + 315_360_000);
}

#[test]
fn what_is_no_token_is_no_token() {
    let long = "a".repeat((16 << 10) + 1);
    let unfit = [
        String::new(),
        "<html>Sign in to the hotel's network</html>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({ "access_token": "" }).to_string(),
        json!({ "access_token": 7 }).to_string(),
        json!({ "access_token": "a\u{1}auth=b" }).to_string(),
        json!({ "access_token": "a b" }).to_string(),
        json!({ "access_token": "ä" }).to_string(),
        json!({ "access_token": long }).to_string(),
        json!({ "access_token": "a", "refresh_token": "b\nc" }).to_string(),
        json!({ "access_token": "a", "more": "x".repeat(MAX_BODY) }).to_string(),
        "[".repeat(60_000),
    ];
    for body in unfit {
        let refused = read(&answer(200, &body), NOW).unwrap_err();
        assert_eq!(refused.kind, Kind::Temporary, "{:.60}", body);
        assert!(refused.words.contains("token URL"));
    }
    let mac = json!({ "access_token": "a", "token_type": "mac" }).to_string();
    assert_eq!(read(&answer(200, mac), NOW).unwrap_err().kind, Kind::Permanent);
    let refused = json!({ "error": "invalid_grant" }).to_string();
    assert_eq!(read(&answer(200, refused), NOW).unwrap_err().kind, Kind::Permanent);
}

proptest! {
    #[test]
    fn any_answer_is_read(status in 0_u16..700, body: Vec<u8>, now: u64) {
        let _ = read(&answer(status, body), now);
    }

    #[test]
    fn any_members_are_read(status in 190_u16..600, members in proptest::collection::vec(
        (
            proptest::sample::select(vec![
                "access_token", "expires_in", "refresh_token", "error", "error_description", "error_codes",
                "error_subtype", "token_type", "refresh_token_expires_in",
            ]),
            prop_oneof![
                "\\PC{0,12}".prop_map(Value::from),
                "(AADSTS[0-9]{0,25}:? ?){0,3}".prop_map(Value::from),
                any::<i64>().prop_map(Value::from),
                any::<f64>().prop_map(Value::from),
                Just(Value::Null),
                Just(json!({ "status": "UNAVAILABLE" })),
                Just(json!([50_173, "x", null, -1])),
            ],
        ),
        0..6,
    ), now: u64) {
        let named = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        let body: serde_json::Map<String, Value> = named.collect();
        match read(&answer(status, Value::from(body).to_string()), now) {
            Ok(token) => prop_assert!(token.expires_at >= now && (200..300).contains(&status)),
            Err(refused) => prop_assert!(!refused.words.is_empty() && refused.words.len() < 400),
        }
    }

    #[test]
    fn any_key_is_read(key in "(-----BEGIN |-----END |PRIVATE KEY-----|[A-Za-z0-9+/=\\n ]{0,40}){0,8}") {
        let _ = assertion::key_pair(&key);
    }
}
