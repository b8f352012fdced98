//! Why token endpoints refuse, and what a person can do about it.

use super::Kind::{self, Permanent, Temporary};

/// A known reason.
pub(super) struct Cause {
    /// Whether it goes away by itself.
    pub(super) kind: Kind,
    /// What happened and what to do.
    pub(super) words: &'static str,
    /// How long to leave the endpoint alone at least, in seconds.
    pub(super) retry_after: Option<u64>,
}

const fn lasting(words: &'static str) -> Cause {
    Cause { kind: Permanent, words, retry_after: None }
}

const fn passing(words: &'static str) -> Cause {
    Cause { kind: Temporary, words, retry_after: None }
}

/// What is said of an answer that should be a token and is not.
pub(super) const NO_TOKEN: &str = "the token endpoint answers with something that is no token: check the token URL";
/// What is said of an endpoint that cannot now.
pub(super) const BUSY: &str = "the token endpoint cannot answer now";

pub(super) static UNKNOWN: Cause =
    lasting("the token endpoint refuses for a reason that it names: look the name up at the provider");
static BUSY_NOW: Cause = passing(BUSY);
static EXPIRED: Cause = lasting(
    "the refresh token has ended, mostly because nobody used it for 90 days: sign in again and configure the new one",
);
static REVOKED: Cause = lasting(
    "the refresh token was revoked, by an administrator or because the password changed: sign in again and configure \
     the new one",
);
static SIGN_IN: Cause = lasting(
    "the organization's rules ask for a new sign-in: sign in again and configure the new refresh token, or have the \
     sign-in frequency lifted for this account",
);
static SECOND_FACTOR: Cause = lasting(
    "the provider wants a person to sign in, with a second factor: sign in again and configure the new refresh token",
);
static BLOCKED: Cause = lasting(
    "the organization's access rules block this sign-in: ask its administrator to allow this app and this network",
);
static DISABLED: Cause = lasting("the mailbox's account is disabled or locked: ask its administrator");
static NO_ACCOUNT: Cause = lasting("the provider does not know the mailbox's account: check its name and the tenant");
static PASSWORD: Cause = lasting("the account's password has ended: set a new one, then sign in again");
static CONSENT: Cause = lasting("nobody has allowed the app to read this mail: an administrator has to consent to it");
static SECRET_ENDED: Cause =
    lasting("the client secret has ended: make a new one in the app's registration and configure it");
static SECRET_WRONG: Cause = lasting(
    "the client secret is wrong or missing: configure the secret's value (not its id) from the app's registration",
);
static SECRET_NEEDLESS: Cause = lasting("the app is registered as public and takes no client secret: configure none");
static NO_APP: Cause = lasting(
    "the provider does not know the app, or it is disabled: check the client id and the tenant in the token URL",
);
static NO_TENANT: Cause = lasting("the provider does not know the tenant: check the tenant in the token URL");
static OWN_TENANT: Cause = lasting("this app needs its own tenant in the token URL instead of common or consumers");
static SCOPE: Cause = lasting(
    "the scope is wrong: Microsoft wants https://outlook.office365.com/.default with client credentials and \
     https://outlook.office.com/IMAP.AccessAsUser.All with a refresh token, Google https://mail.google.com/",
);
static LOOP: Cause = Cause {
    kind: Temporary,
    words: "the provider was asked too often and stops answering for a while: look for others that use the same app",
    retry_after: Some(300),
};
static GRANT: Cause = lasting(
    "the refresh token is no longer good: sign in again and configure the new one. Google ends it after 7 days while \
     the app's publishing status is Testing, after 6 months without use, and when the password changes",
);
static REAUTHENTICATE: Cause = lasting(
    "Google's session control for this organization wants a new sign-in: sign in again, or have the app trusted there",
);
static CLOCK: Cause = passing("the provider finds the request's time wrong: check this machine's clock");
static KEY: Cause = lasting(
    "the service account's key does not fit the account: it was deleted or belongs to another. Make a new key and \
     configure it with the account's address as client id",
);
static DELEGATION: Cause = lasting(
    "the app may not ask this way: a Google service account needs domain-wide delegation for the scope, other apps \
     need this grant allowed in their registration",
);
static CLIENT: Cause = lasting("the provider does not take the client id and secret: check both");
static POLICY: Cause = lasting("an administrator's policy does not let this app in: ask to have it trusted");
static REQUEST: Cause =
    lasting("the token endpoint does not understand the request: check the token URL and the grant");
static WRONG_URL: Cause = lasting("there is no token endpoint at the token URL: check it");

/// By Microsoft's numbers (the list of AADSTS error codes in Microsoft's documentation of Entra).
static NUMBERS: &[(&[u64], &Cause)] = &[
    (&[700_082, 70_008, 700_084, 50_089], &EXPIRED),
    (&[50_173, 50_132, 50_133], &REVOKED),
    (&[70_000], &GRANT),
    (&[70_043, 50_078, 50_085], &SIGN_IN),
    (&[50_072, 50_074, 50_076, 50_079, 50_158, 700_020, 53_004], &SECOND_FACTOR),
    (&[53_000, 53_001, 53_002, 53_003, 53_011, 530_032, 530_034, 530_035, 50_005, 50_097, 50_131, 50_105], &BLOCKED),
    (&[50_053, 50_057], &DISABLED),
    (&[50_020, 50_034, 51_004, 16_000, 16_003], &NO_ACCOUNT),
    (&[50_055, 50_135, 50_144], &PASSWORD),
    (&[65_001, 65_004, 65_005, 650_056, 90_008, 90_094, 90_095, 9_002_341], &CONSENT),
    (&[7_000_222], &SECRET_ENDED),
    (&[7_000_215, 7_000_218, 70_002, 50_012, 700_027], &SECRET_WRONG),
    (&[700_025], &SECRET_NEEDLESS),
    (&[700_016, 70_001, 700_011, 7_000_112], &NO_APP),
    (&[90_002, 90_019, 50_059], &NO_TENANT),
    (&[50_194, 9_001_023, 90_130, 9_002_332], &OWN_TENANT),
    (&[28_002, 28_003, 50_001, 500_011, 650_057, 70_011, 700_022, 700_023, 1_002_012], &SCOPE),
    (&[50_196], &LOOP),
    (&[40_010, 50_033, 50_087, 50_088, 50_166, 70_012, 80_001, 80_002, 80_005, 80_014], &BUSY_NOW),
    (&[90_006, 90_012, 90_024, 90_033, 90_055, 90_090, 90_091, 501_621], &BUSY_NOW),
];

/// By Google's `error_subtype` or pieces of its description.
static DESCRIPTIONS: &[(&str, &Cause)] = &[
    ("invalid_rapt", &REAUTHENTICATE),
    ("rapt_required", &REAUTHENTICATE),
    ("Invalid JWT Signature", &KEY),
    ("account not found", &KEY),
    ("reasonable timeframe", &CLOCK),
    ("Invalid email or User ID", &NO_ACCOUNT),
    ("Account has been deleted", &NO_ACCOUNT),
    ("Account disabled", &DISABLED),
];

/// By the error's name: RFC 6749, section 5.2, OpenID Connect Core, section 3.1.2.6, then the providers' own.
static NAMES: &[(&[&str], &Cause)] = &[
    (&["invalid_grant"], &GRANT),
    (&["invalid_client"], &CLIENT),
    (&["unauthorized_client"], &DELEGATION),
    (&["invalid_scope", "invalid_resource", "invalid_target"], &SCOPE),
    (&["invalid_request", "unsupported_grant_type"], &REQUEST),
    (&["interaction_required", "login_required", "account_selection_required"], &SECOND_FACTOR),
    (&["consent_required"], &CONSENT),
    (&["access_denied", "admin_policy_enforced", "org_internal", "permission_denied"], &POLICY),
    (&["deleted_client", "disabled_client"], &NO_APP),
    (&["temporarily_unavailable", "server_error", "slow_down", "internal_failure", "internal_error"], &BUSY_NOW),
    (&["rate_limit_exceeded", "ratelimitexceeded", "resource_exhausted", "unavailable", "internal"], &BUSY_NOW),
];

/// The cause that Microsoft's `number` stands for.
pub(super) fn of_number(number: u64) -> Option<&'static Cause> {
    NUMBERS.iter().find(|(numbers, _)| numbers.contains(&number)).map(|(_, cause)| *cause)
}

/// The cause that Google's wording tells.
pub(super) fn of_description(subtype: &str, description: &str) -> Option<&'static Cause> {
    DESCRIPTIONS.iter().find(|(piece, _)| subtype == *piece || description.contains(piece)).map(|(_, cause)| *cause)
}

/// The cause that the error's `name` tells.
pub(super) fn of_name(name: &str) -> Option<&'static Cause> {
    NAMES.iter().find(|(names, _)| names.contains(&name)).map(|(_, cause)| *cause)
}

/// The cause of a refusal that has no name.
pub(super) fn of_status(status: u16) -> &'static Cause {
    match status {
        300..=399 | 404 | 405 | 410 | 415 => &WRONG_URL,
        401 => &CLIENT,
        // Google's front ends say 403, in HTML, to whom they find too busy.
        _ => &BUSY_NOW,
    }
}
