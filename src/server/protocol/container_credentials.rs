//! Serves the credential in the container form of ECS, for the `AWS_CONTAINER_CREDENTIALS_*` variables
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use serde_json::json;

use super::http::{Refusal, Request, Response, StatusCode};
use crate::common::{BootTime, clock};
use crate::messages::ServerState;

const ROOT: &str = "/v2/credentials/";

/// Responds as ECS's credential endpoint; `None` if the path does not start with `ROOT`, or no container token is set.
pub fn respond<'a>(
    request: &Request,
    state: &'a ServerState,
    now: BootTime,
) -> Option<Response<'a>> {
    let token = state.container_token.as_ref()?;
    let path = request.path()?;
    let name = path.strip_prefix(ROOT)?.trim_end_matches('/');
    let refuse =
        |refusal, status, code, message| Some(error(status, code, message).refused(refusal));
    if request.header("X-Forwarded-For").is_some() {
        let message = "requests with X-Forwarded-For are refused; ask without a proxy";
        return refuse(Refusal::Forwarded, StatusCode::FORBIDDEN, "Forbidden", message);
    }
    if !matches!(request.method, "GET" | "HEAD") {
        let refusal = error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "send GET");
        return Some(refusal.header("Allow", "GET, HEAD").refused(Refusal::Method));
    }
    let (refusal, message) = match request.header("Authorization") {
        // Compare the whole header value: SDKs add no scheme such as `Bearer`, but the token file may contain one.
        Some(sent) if token.equals(sent) => return Some(credential(name, state, now)),
        Some(_) => (
            Refusal::BadToken,
            "the Authorization header is not the container token of this server",
        ),
        None => (
            Refusal::NoToken,
            "no Authorization header: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
    };
    refuse(refusal, StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

fn credential<'a>(name: &str, state: &'a ServerState, now: BootTime) -> Response<'a> {
    if !name.is_empty() && name != state.config.role_name.as_str() {
        return error(StatusCode::NOT_FOUND, "InvalidIdInRequest", "no role of this name");
    }
    let Some(credential) = state.valid_credential(now) else {
        let (code, message) = ("CredentialsUninitialized", "no valid credentials at present");
        return error(StatusCode::INTERNAL_SERVER_ERROR, code, message);
    };
    // A path without a name returns the role's name, as `meta-data/iam/security-credentials/` does, because `--check` gets the
    // name here and then requests the document.
    if name.is_empty() {
        return Response::text(state.config.role_name.as_str());
    }
    let mut document = json!({
        "RoleArn": state.role.as_str(),
        "AccessKeyId": credential.access_key_id,
        "SecretAccessKey": credential.secret_access_key.expose(),
        "Token": credential.session_token.expose(),
        "Expiration": clock::iso8601(credential.expiration),
    });
    if let Some(id) = state.role.account_id() {
        document["AccountId"] = id.into();
    }
    Response::text(document.to_string()).content_type("application/json")
}

/// Returns an error document with each key in two spellings: Go's SDK parses lower case, JavaScript's SDK capitals.
fn error(status: StatusCode, code: &str, message: &str) -> Response<'static> {
    let document = json!({ "code": code, "message": message, "Code": code, "Message": message });
    Response::text(document.to_string()).status(status).content_type("application/json")
}
