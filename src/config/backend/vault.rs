//! The options of Vault: struct, rows and parser. The environment variables of Vault's own client are the defaults.
//! Resolves no name and reads no file.

use std::path::PathBuf;

use super::address::{is_plain, node_url, refuse, refuse_variable};
use super::credential::{Credential, Login, PASSWORD_FILE, credential};
use super::general::GENERAL;
use super::network::{self, NETWORK, Network};
use super::read_limits::READ_LIMITS;
use super::tls::{self, TLS, Tls};
use crate::config::reader::{Purpose, Reader};
use crate::config::report::quoted;
use crate::config::schema::{Default, Schema, Type, key, secret};
use crate::config::secret::Secret;
use crate::nearest::nearest;

/// The options of Vault.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    /// A URL with `http` or `https` and no slash at the end, or `unix://` and a path.
    pub node: String,
    /// The auth method.
    pub auth_type: AuthType,
    /// The credentials of the login; see [`AuthType`].
    pub login: Login,
    /// The mount path of the auth method, without slashes at its ends; empty for [`AuthType::Token`].
    pub auth_mount: String,
    /// Empty: the root namespace.
    pub namespace: String,
    /// The files for TLS.
    pub tls: Tls,
    /// The limits of requests.
    pub network: Network,
}

/// An auth method of Vault, with its use of the user and the password of [`Vault::login`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthType {
    /// The password is the token.
    Token,
    /// `role_id` and `secret_id`.
    AppRole,
    /// `app_id` and `user_id`.
    AppId,
    /// The password is the personal access token.
    GitHub,
    /// Name and password.
    UserPass,
    /// The user is the role; the password is the token of the service account.
    Kubernetes,
    /// The user is the role, which may be empty. The certificate is that of TLS.
    Cert,
}

/// The names of the methods in the configuration. All but `token` are also the default mount paths of Vault.
const AUTH_TYPES: &[(&str, AuthType)] = &[
    ("token", AuthType::Token),
    ("approle", AuthType::AppRole),
    ("app-id", AuthType::AppId),
    ("github", AuthType::GitHub),
    ("userpass", AuthType::UserPass),
    ("cert", AuthType::Cert),
    ("kubernetes", AuthType::Kubernetes),
];

/// The file with the service account's token of a pod.
const JWT_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

pub(in crate::config) static VAULT: Schema = Schema {
    path: "resource.backend.vault",
    title: "`vault`",
    groups: &[
        GENERAL,
        &[
            key(
                "node",
                Type::Text,
                Default::Described("`VAULT_ADDR`; needed without it"),
                "the address, like `https://vault:8200`, or `unix:///PATH` of a socket. An address without a scheme has TLS \
                 if one of the `client_*` files is set",
            ),
            key(
                "auth_type",
                Type::Text,
                Default::Described("`token` if only `VAULT_TOKEN` is set; needed else"),
                "`token`, `approle`, `app-id`, `github`, `userpass`, `cert` or `kubernetes`",
            ),
            secret("app_id", "for `app-id`"),
            secret("user_id", "for `app-id`"),
            secret("role_id", "for `approle`; the role for `kubernetes`, and for `cert` if it is set"),
            secret("secret_id", "for `approle`"),
            key("username", Type::Text, Default::Unset, "for `userpass`"),
            secret("password", "for `userpass`"),
            secret("auth_token", "for `token` and `github`; for `token`, `VAULT_TOKEN` where it is not set"),
        ],
        TLS,
        // Go remco has none of these.
        &[
            key(
                "auth_token_file",
                Type::Text,
                Default::Unset,
                "the path of a file that holds the token, read at every login; a newline at its end is ignored",
            ),
            key(
                "secret_id_file",
                Type::Text,
                Default::Unset,
                "the path of a file that holds the `secret_id`, by the rules of `auth_token_file`",
            ),
            PASSWORD_FILE,
            key(
                "jwt_file",
                Type::Text,
                Default::Word(JWT_FILE),
                "for `kubernetes`: the path of the file that holds the token of the service account, read at every login",
            ),
            key(
                "auth_mount",
                Type::Text,
                Default::Described("the name of `auth_type`"),
                "the path at which the auth method is mounted, without `auth/`; not for `token`",
            ),
            key("namespace", Type::Text, Default::Described("`VAULT_NAMESPACE`"), "the namespace"),
        ],
        NETWORK,
        READ_LIMITS,
    ],
};

/// Reads the table; `None`: a key that the login needs is missing or wrong.
pub(super) fn parse(reader: &Reader) -> Option<Vault> {
    let report = reader.report;
    let auth_type = auth_type(reader);
    let tls = tls::tls(reader);
    let tls = Tls {
        client_ca_keys: tls.client_ca_keys.or_else(|| report.variable("VAULT_CACERT").map(PathBuf::from)),
        ..tls
    };
    let network = network::parse(reader);
    let variable = |name: &str| report.variable(name).unwrap_or_default().to_owned();
    let namespace = reader.filled("namespace").map_or_else(|| variable("VAULT_NAMESPACE"), |it| it.value.to_owned());
    let mount = reader.filled("auth_mount").map(|mount| mount.value.trim_matches('/').to_owned());
    let node = node(reader, &tls);
    let auth_type = auth_type?;
    let login = login(reader, auth_type);
    let usual = AUTH_TYPES.iter().find(|(_, known)| *known == auth_type).map_or("", |(name, _)| *name);
    let auth_mount = match (auth_type, mount) {
        (AuthType::Token, _) => String::new(),
        (_, Some(mount)) if !mount.is_empty() => mount,
        _ => usual.to_owned(),
    };
    Some(Vault { node: node?, auth_type, login: login?, auth_mount, namespace, tls, network })
}

/// The URL of the server.
fn node(reader: &Reader, tls: &Tls) -> Option<String> {
    let report = reader.report;
    let of_environment = report.variable("VAULT_ADDR").filter(|_| reader.filled("node").is_none());
    let (node, span) = match of_environment {
        Some(node) => (node, reader.span()),
        None => {
            let found = reader.required("node", "the address of the server")?;
            (found.value, found.span)
        }
    };
    if node.is_empty() && reader.purpose == Purpose::Default {
        return Some(String::new());
    }
    let has_files = tls.client_cert.is_some() || tls.client_key.is_some() || tls.client_ca_keys.is_some();
    let url = match node.trim().strip_prefix("unix://") {
        Some(path) => path.starts_with('/').then(|| format!("unix://{path}")),
        None => node_url(node, if has_files { "https" } else { "http" }).filter(|url| is_plain(url)),
    };
    let socket = url.as_deref().and_then(|url| url.strip_prefix("unix://"));
    socket.into_iter().for_each(|path| report.check_socket(span, path));
    if url.is_none() {
        match of_environment {
            Some(address) => refuse_variable(report, span, ("VAULT_ADDR", address), "Vault", "node"),
            None => refuse(report, span, node, "Vault", "write it like `\"https://vault:8200\"`"),
        }
    }
    url
}

fn auth_type(reader: &Reader) -> Option<AuthType> {
    let report = reader.report;
    let names = || AUTH_TYPES.iter().map(|(name, _)| *name);
    let listed = || names().map(quoted).collect::<Vec<_>>().join(", ");
    let Some(found) = reader.filled("auth_type") else {
        let has_own =
            ["auth_token", "auth_token_file", "role_id", "app_id", "username"].iter().any(|key| reader.has(key));
        if report.variable("VAULT_TOKEN").is_some() && !has_own {
            return Some(AuthType::Token);
        }
        if reader.purpose == Purpose::Use {
            let why = if reader.has("auth_type") { report.unset(reader.place("auth_type")) } else { String::new() };
            let message = format!("vault has no `auth_type`{why}: set it to one of {}", listed());
            report.missing(reader.place("auth_type"), message);
        }
        return None;
    };
    let known = AUTH_TYPES.iter().find(|(name, _)| *name == found.value).map(|(_, known)| *known);
    if known.is_none() {
        let shown = report.show(found.span, found.value);
        let advice = match nearest(found.value, names()) {
            Some(known) => format!(", did you mean {}?", quoted(known)),
            None => format!(": known are {}", listed()),
        };
        report.error(found.span, format!("unknown `auth_type` {shown}{advice}"));
    }
    known
}

/// Reads the credentials of the login, and reports missing ones.
fn login(reader: &Reader, auth_type: AuthType) -> Option<Login> {
    let inline = |name| Some(reader.secret(name)).filter(|it| !it.reveal().is_empty()).map(Credential::Inline);
    let need = |found: Option<Credential>, names: &str| {
        if found.is_none() && reader.purpose == Purpose::Use {
            reader.report.missing(reader.place("auth_type"), format!("this `auth_type` needs {names}: set it"));
        }
        found.or_else(|| (reader.purpose == Purpose::Default).then(Credential::none))
    };
    let (user, password) = match auth_type {
        AuthType::Token => {
            let variable = reader.report.variable("VAULT_TOKEN");
            let token = credential(reader, "auth_token", "auth_token_file")
                .or_else(|| variable.map(|token| Credential::Inline(Secret::new(token.to_owned()))));
            (Some(Credential::none()), need(token, "`auth_token` or `auth_token_file`"))
        }
        AuthType::GitHub => {
            let token = credential(reader, "auth_token", "auth_token_file");
            (Some(Credential::none()), need(token, "`auth_token` or `auth_token_file`"))
        }
        AuthType::AppRole => {
            // A role may have no secret.
            let secret = credential(reader, "secret_id", "secret_id_file").unwrap_or_else(Credential::none);
            (need(inline("role_id"), "`role_id`"), Some(secret))
        }
        AuthType::AppId => (need(inline("app_id"), "`app_id`"), need(inline("user_id"), "`user_id`")),
        AuthType::UserPass => {
            let user = reader.filled("username").map(|it| Credential::Inline(Secret::new(it.value.to_owned())));
            let password = credential(reader, "password", "password_file");
            (need(user, "`username`"), need(password, "`password` or `password_file`"))
        }
        AuthType::Kubernetes => {
            (need(inline("role_id"), "`role_id`"), Some(Credential::File(reader.string("jwt_file").into())))
        }
        AuthType::Cert => (Some(inline("role_id").unwrap_or_else(Credential::none)), Some(Credential::none())),
    };
    Some(Login { username: user?, password: password? })
}

impl Vault {
    /// Whether the node is https.
    pub fn wants_tls(&self) -> bool {
        self.node.starts_with("https://")
    }
}
