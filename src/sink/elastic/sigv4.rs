//! Signature Version 4 of AWS, which OpenSearch Service asks for instead of a password.
//!
//! Format: AWS, *Authenticating Requests (AWS Signature Version 4)*. What is signed are method, path, query, the headers `host`, `x-amz-content-sha256`,
//! `x-amz-date` and `x-amz-security-token`, and the body's SHA-256, so that a request that is seen on its way can be sent again for a quarter of an hour and
//! changed in nothing.

use std::fmt::Write;
use std::time::SystemTime;

use ring::hmac;
use sha2::{Digest, Sha256};

use super::aws_key::AwsKey;

/// OpenSearch Service's name in signatures.
const SERVICE: &str = "es";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub method: &'a str,
    /// As the `Host` header has it.
    pub host: &'a str,
    /// As it goes over the wire.
    pub path: &'a str,
    /// Not yet encoded.
    pub query: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// The headers to send along, in lower case, `host` not among them.
pub(super) fn sign(
    key: &AwsKey,
    region: &str,
    at: SystemTime,
    request: Signed<'_>,
) -> Vec<(&'static str, String)> {
    let body = hex(&Sha256::digest(request.body));
    let mut headers = vec![("x-amz-content-sha256", body.clone()), ("x-amz-date", moment(at))];
    if let Some(token) = &key.token {
        headers.push(("x-amz-security-token", token.reveal().to_owned()));
    }
    let authorization = authorization(key, (region, SERVICE), request, &headers, &body);
    headers.push(("authorization", authorization));
    headers
}

/// `headers`: those that are signed besides `host`, by name, all behind it in the alphabet, `x-amz-date` among them.
fn authorization(
    key: &AwsKey,
    (region, service): (&str, &str),
    request: Signed<'_>,
    headers: &[(&'static str, String)],
    body: &str,
) -> String {
    let Signed { method, host, path, query, .. } = request;
    let moment = headers.iter().find(|(name, _)| *name == "x-amz-date").map_or("", |(_, value)| value);
    let day = moment.get(..8).unwrap_or_default();
    let mut names = "host".to_owned();
    let mut lines = format!("host:{host}\n");
    for (name, value) in headers {
        names.push(';');
        names.push_str(name);
        lines.push_str(&format!("{name}:{value}\n"));
    }
    // What is encoded on the wire is encoded once more, as all services but S3 have it.
    let canonical =
        format!("{method}\n{}\n{}\n{lines}\n{names}\n{body}", encoded(path, true), canonical_query(query));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("{ALGORITHM}\n{moment}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut signing = mac(format!("AWS4{}", key.secret.reveal()).as_bytes(), day);
    for part in [region, service, "aws4_request", &to_sign] {
        signing = mac(signing.as_ref(), part);
    }
    let signature = hex(signing.as_ref());
    format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", key.id)
}

fn canonical_query(query: &[(&str, &str)]) -> String {
    // By name, then by value: `Param=…` comes before `Param-3=…`.
    let mut pairs: Vec<(String, String)> =
        query.iter().map(|(name, value)| (encoded(name, false), encoded(value, false))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str, is_path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if is_path => out.push('/'),
            _ => write!(out, "%{byte:02X}").expect("writing into a string does not fail"),
        }
    }
    out
}

/// `20150830T123600Z`
fn moment(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().replace(['-', ':'], "")
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing into a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use std::time::{Duration, UNIX_EPOCH};

    const MOMENT: &str = "20150830T123600Z";

    fn key(token: Option<&str>) -> AwsKey {
        AwsKey {
            id: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: token.map(Secret::new),
        }
    }

    fn get<'a>(path: &'a str, query: &'a [(&'a str, &'a str)]) -> Signed<'a> {
        Signed { method: "GET", host: "example.amazonaws.com", path, query, body: b"" }
    }

    /// AWS's test suite for Signature Version 4: what it publishes as `header-signed-request` of each case. It signs `host` and
    /// `x-amz-date`, and the token where there is one.
    #[test]
    fn the_published_signatures_come_out() {
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let post = Signed { method: "POST", ..get("/", &[]) };
        for (case, request, token, expected) in [
            ("post-vanilla", post, None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "get-utf8",
                get("/ሴ", &[]),
                None,
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "get-space-unnormalized",
                get("/example space/", &[]),
                None,
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
            (
                "get-vanilla-utf8-query",
                get("/", &[("ሴ", "bar")]),
                None,
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "get-vanilla-query-order-encoded",
                get("/", &[("Param-3", "Value3"), ("Param", "Value2"), ("ሴ", "Value1")]),
                None,
                "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            ),
            (
                "get-vanilla-with-session-token",
                get("/", &[]),
                Some(token),
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
        ] {
            let mut headers = vec![("x-amz-date", MOMENT.to_owned())];
            headers.extend(token.map(|token| ("x-amz-security-token", token.to_owned())));
            let body = hex(&Sha256::digest(request.body));
            let signed = authorization(&key(token), ("us-east-1", "service"), request, &headers, &body);
            assert!(signed.ends_with(&format!(", Signature={expected}")), "{case}: {signed}");
            assert!(
                signed.starts_with(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date"
                ),
                "{case}: {signed}"
            );
        }
    }

    #[test]
    fn what_is_sent_is_signed_with_the_moment_the_body_and_the_token() {
        let at = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let request = Signed { body: b"Param1=value1", ..get("/", &[]) };
        let headers = sign(&key(Some("t")), "us-east-1", at, request);
        let of = |name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        assert_eq!(of("x-amz-date"), Some(MOMENT));
        assert_eq!(
            of("x-amz-content-sha256"),
            Some("9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e")
        );
        assert_eq!(of("x-amz-security-token"), Some("t"));
        let names =
            "/es/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, ";
        assert!(of("authorization").is_some_and(|text| text.contains(names)), "{headers:?}");
    }
}
