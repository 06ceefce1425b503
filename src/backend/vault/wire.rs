//! The requests and answers of Vault over HTTP: paths, logins, leases and the texts of a secret. Opens no connection
//! and decides nothing.
//!
//! Sources: the documentation of Vault's HTTP API, and answers that were captured from OpenBao 2.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::backend::protocol::Request;
use crate::backend::redact::Redactor;
use crate::backend::refusal;
use crate::config::AuthType;
use crate::percent;

/// The header of the token.
pub const TOKEN: &str = "X-Vault-Token";
/// The header of the namespace.
pub const NAMESPACE: &str = "X-Vault-Namespace";
/// The header that an agent may require, as a protection against request forgery.
pub const REQUEST: &str = "X-Vault-Request";

/// The number of bytes of a refusal that are shown.
const SHOWN: usize = 300;

/// The request that describes the token itself.
pub fn lookup() -> Request {
    Request::get("/v1/auth/token/lookup-self".to_owned())
}

/// The request that renews the token itself.
pub fn renew() -> Request {
    Request::post("/v1/auth/token/renew-self", "{}".to_owned())
}

/// The request that renews a lease.
pub fn renew_lease(id: &str) -> Request {
    Request::post("/v1/sys/leases/renew", json!({"lease_id": id}).to_string())
}

/// The request of a login; `None`: the configuration has a token.
pub fn login(auth: AuthType, mount: &str, user: &str, password: &str) -> Option<Request> {
    let (name, body) = match auth {
        AuthType::Token => return None,
        AuthType::AppRole if password.is_empty() => ("", json!({"role_id": user})),
        AuthType::AppRole => ("", json!({"role_id": user, "secret_id": password})),
        AuthType::AppId => ("", json!({"app_id": user, "user_id": password})),
        AuthType::GitHub => ("", json!({"token": password})),
        AuthType::UserPass => (user, json!({"password": password})),
        AuthType::Kubernetes => ("", json!({"role": user, "jwt": password})),
        AuthType::Cert if user.is_empty() => ("", json!({})),
        AuthType::Cert => ("", json!({"name": user})),
    };
    let mut target = "/v1/auth/".to_owned();
    percent::push_path(mount.as_bytes(), &mut target);
    target += "/login";
    if !name.is_empty() {
        target.push('/');
        percent::push_segment(name.as_bytes(), &mut target);
    }
    // A secret id may be valid for one login only.
    Some(Request::post(&target, body.to_string()).once())
}

/// The request for the mount that a path belongs to.
pub fn mount(path: &str) -> Request {
    get("sys/internal/ui/mounts/", path, "")
}

/// The request for the names below a path.
pub fn list(path: &str) -> Request {
    let slash = if path.is_empty() || path.ends_with('/') { "?list=true" } else { "/?list=true" };
    get("", path, slash)
}

/// The request for the secret at a path.
pub fn read(path: &str) -> Request {
    get("", path, "")
}

fn get(before: &str, path: &str, behind: &str) -> Request {
    let mut target = format!("/v1/{before}");
    percent::push_path(path.as_bytes(), &mut target);
    target += behind;
    Request::get(target)
}

/// A complete answer with the status 200.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    lease_id: Option<String>,
    #[serde(default)]
    lease_duration: Option<u64>,
    #[serde(default)]
    renewable: Option<bool>,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    auth: Option<Auth>,
}

#[derive(Debug, Deserialize)]
struct Auth {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// A token and its lifetime.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenLife {
    /// The new token; empty after a lookup.
    pub token: String,
    /// The lifetime; `None`: unlimited.
    pub life: Option<Duration>,
    /// Whether a renewal is possible.
    pub renewable: bool,
}

/// The lease of a dynamic secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id.
    pub id: String,
    /// The lifetime of the secret from now on.
    pub life: Duration,
    /// Whether a renewal is possible.
    pub renewable: bool,
}

/// The error for an answer that is not Vault's. Shows neither a key nor a value.
pub const NONSENSE: &str = "not an answer of vault";

impl Answer {
    /// Reads an answer. An empty body is an empty answer.
    ///
    /// # Errors
    /// [`NONSENSE`].
    pub fn of(body: &[u8]) -> Result<Answer, &'static str> {
        if body.trim_ascii().is_empty() {
            return Ok(Answer::default());
        }
        // Serde takes a list for a struct, too.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(NONSENSE);
        }
        // serde_json shows the unexpected value, which may be a secret.
        serde_json::from_slice(body).map_err(|_| NONSENSE)
    }

    /// Whether the answer has the fields of every answer about a path.
    pub fn is_of_path(&self) -> bool {
        self.data.is_some() || self.request_id.is_some()
    }

    /// The result of a login or a renewal.
    pub fn token(self) -> Result<TokenLife, &'static str> {
        let auth = self.auth.ok_or(NONSENSE)?;
        let is_sound = !auth.client_token.is_empty() && auth.client_token.bytes().all(|byte| byte.is_ascii_graphic());
        let life = (auth.lease_duration > 0).then(|| Duration::from_secs(auth.lease_duration));
        is_sound.then_some(TokenLife { token: auth.client_token, life, renewable: auth.renewable }).ok_or(NONSENSE)
    }

    /// The result of a lookup of the token itself.
    pub fn looked_up(&self) -> TokenLife {
        let of = |name: &str| self.data.as_ref().and_then(|data| data.get(name));
        let life = of("ttl").and_then(Value::as_u64).filter(|life| *life > 0).map(Duration::from_secs);
        let renewable = of("renewable").and_then(Value::as_bool).unwrap_or(false);
        TokenLife { token: String::new(), life, renewable }
    }

    /// The lease of the secret, if it has one.
    pub fn lease(&self) -> Option<Lease> {
        let id = self.lease_id.clone().filter(|id| !id.is_empty())?;
        let life = self.lease_duration.filter(|life| *life > 0).map(Duration::from_secs)?;
        Some(Lease { id, life, renewable: self.renewable.unwrap_or(false) })
    }

    /// The path of a mount of version 2 of the key-value engine, with a trailing slash. `None`: another kind of mount.
    pub fn versioned(&self) -> Option<&str> {
        let data = self.data.as_ref()?;
        let version = data.get("options")?.get("version")?.as_str()?;
        let path = data.get("path")?.as_str()?;
        (version == "2" && path.ends_with('/')).then_some(path)
    }

    /// The names of a list. Names of folders end with a slash.
    ///
    /// # Errors
    /// [`NONSENSE`], also if a name leads to another folder.
    pub fn names(&self) -> Result<Vec<&str>, &'static str> {
        let keys = match self.data.as_ref().and_then(|data| data.get("keys")) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(keys) => keys.as_array().ok_or(NONSENSE)?,
        };
        let name = |key: &'_ Value| {
            let name = key.as_str()?;
            let bare = name.strip_suffix('/').unwrap_or(name);
            (!bare.is_empty() && !bare.contains('/') && bare != "." && bare != "..").then_some(())
        };
        keys.iter().map(|key| name(key).and(key.as_str()).ok_or(NONSENSE)).collect()
    }

    /// The error of `give`.
    pub fn texts(
        &self,
        is_versioned: bool,
        give: &mut dyn FnMut(&str, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let data = match is_versioned {
            true => self.data.as_ref().and_then(|data| data.get("data")).and_then(Value::as_object),
            false => self.data.as_ref(),
        };
        match data {
            None => Ok(()),
            Some(data) => match data.get("value") {
                Some(Value::String(value)) if data.len() == 1 => give("", value),
                _ => flatten("", data, give),
            },
        }
    }
}

/// serde_json limits the depth.
fn flatten(
    path: &str,
    map: &Map<String, Value>,
    give: &mut dyn FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    map.iter().try_for_each(|(name, value)| match value {
        Value::String(text) => give(&format!("{path}/{name}"), text),
        Value::Object(map) => flatten(&format!("{path}/{name}"), map, give),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Ok(()),
    })
}

/// Whether the body of a refusal is Vault's: a list of errors, which may be empty, or a secret without its data. A body
/// of `kept` bytes may be cut.
pub fn is_refusal(body: &[u8], kept: usize) -> bool {
    let map = serde_json::from_slice::<Map<String, Value>>(body);
    let is_cut = body.len() >= kept && body.starts_with(b"{\"");
    map.map_or(is_cut, |map| map.contains_key("errors") || map.contains_key("data"))
}

/// Whether a refusal says that no engine is mounted at a path.
///
/// Source: the router of Vault and of OpenBao.
pub fn has_no_mount(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("no handler for route")
}

/// The text of a refusal on one line, without secrets.
pub fn words(status: u16, body: &[u8], secrets: &Redactor) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(Errors { errors }) => errors.join("; "),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = secrets.redact(&text);
    let line = text.split(char::is_whitespace).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let hint = match status {
        503 => " (is it sealed?)",
        _ => "",
    };
    refusal::with_status(&format!("status {status}{hint}"), &line, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_texts(is_versioned: bool, data: &str, want: &[(&str, &str)]) {
        let mut given = Vec::new();
        let answer = Answer::of(format!(r#"{{"lease_id":"","data":{data}}}"#).as_bytes()).unwrap();
        answer
            .texts(is_versioned, &mut |name, text| {
                given.push((name.to_owned(), text.to_owned()));
                Ok(())
            })
            .unwrap();
        let want: Vec<_> = want.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        assert_eq!(given, want, "{data}");
    }

    #[test]
    fn only_texts_are_values() {
        check_texts(false, r#"{"value":"x"}"#, &[("", "x")]);
        check_texts(false, r#"{"value":"x","b":"y"}"#, &[("/b", "y"), ("/value", "x")]);
        check_texts(false, r#"{"value":1}"#, &[]);
        check_texts(
            false,
            r#"{"a":1,"b":true,"c":null,"d":["x"],"e":{"f":"g","h":{"i":"j"}}}"#,
            &[("/e/f", "g"), ("/e/h/i", "j")],
        );
        check_texts(true, r#"{"data":{"value":"x"},"metadata":{"created_time":"t"}}"#, &[("", "x")]);
        check_texts(true, r#"{"data":null,"metadata":{"created_time":"t"}}"#, &[]);
        check_texts(false, "null", &[]);
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(read("a b/ä?#%/c").target, "/v1/a%20b/%C3%A4%3F%23%25/c");
        assert_eq!(list("a").target, "/v1/a/?list=true");
        assert_eq!(list("a/").target, "/v1/a/?list=true");
        assert_eq!(mount("a/b").target, "/v1/sys/internal/ui/mounts/a/b");
        let target = |auth, user| login(auth, "team/m", user, "p").map(|request| request.target);
        assert_eq!(target(AuthType::UserPass, "a/b").as_deref(), Some("/v1/auth/team/m/login/a%2Fb"));
        assert_eq!(target(AuthType::Token, ""), None);
    }

    /// The request bodies of all methods, also of those that the test servers lack.
    #[test]
    fn logins_are_those_of_the_documentation() {
        let check = |auth, user, password, want: &str| {
            assert_eq!(login(auth, "m", user, password).unwrap().body.as_deref(), Some(want));
        };
        check(AuthType::AppRole, "r", "s", r#"{"role_id":"r","secret_id":"s"}"#);
        check(AuthType::AppRole, "r", "", r#"{"role_id":"r"}"#);
        check(AuthType::AppId, "a", "u", r#"{"app_id":"a","user_id":"u"}"#);
        check(AuthType::GitHub, "", "t", r#"{"token":"t"}"#);
        check(AuthType::UserPass, "n", "p", r#"{"password":"p"}"#);
        check(AuthType::Kubernetes, "r", "j", r#"{"jwt":"j","role":"r"}"#);
        check(AuthType::Cert, "", "", "{}");
        check(AuthType::Cert, "r", "", r#"{"name":"r"}"#);
    }

    #[test]
    fn names_do_not_lead_elsewhere() {
        let names = |keys: &str| {
            let answer = Answer::of(format!(r#"{{"data":{{"keys":{keys}}}}}"#).as_bytes()).unwrap();
            answer.names().map(|names| names.join(" "))
        };
        assert_eq!(names(r#"["a","b/","c d"]"#).as_deref(), Ok("a b/ c d"));
        assert_eq!(names("null").as_deref(), Ok(""));
        for wrong in [r#"[""]"#, r#"["/"]"#, r#"["../"]"#, r#"["."]"#, r#"["a/b"]"#, r#"["a//"]"#, "[1]", "7"] {
            assert_eq!(names(wrong), Err(NONSENSE), "{wrong}");
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_reported_without_its_values() {
        for wrong in ["[]", r#"{"data":"s3cret"}"#, "{", r#"{"auth":{"client_token":7}}"#] {
            assert_eq!(Answer::of(wrong.as_bytes()).err(), Some(NONSENSE), "{wrong}");
        }
        let token = |auth: &str| Answer::of(format!(r#"{{"auth":{auth}}}"#).as_bytes()).unwrap().token();
        for wrong in ["null", r#"{"client_token":""}"#, r#"{"client_token":"a\r\nb"}"#] {
            assert_eq!(token(wrong), Err(NONSENSE), "{wrong}");
        }
        let life = Some(Duration::from_secs(10));
        let want = TokenLife { token: "t".into(), life, renewable: true };
        assert_eq!(token(r#"{"client_token":"t","lease_duration":10,"renewable":true}"#), Ok(want));
    }
}
