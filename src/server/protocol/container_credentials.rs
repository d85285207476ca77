//! The ECS container-credentials form of the same answer, for the `AWS_CONTAINER_CREDENTIALS_*` variables
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>). Pure.

use serde_json::json;

use crate::common::clock::{self, BootTime};
use crate::common::secret::Secret;
use crate::messages::server_state::ServerState;
use crate::server::protocol::http::{Refusal, Request, Response, Status};

/// Everything below is this form's.
const ROOT: &str = "/v2/credentials/";

/// The answer to a request for this form; `None` if it is none, or the form is not served.
pub fn answer(request: &Request, served: &ServerState, now: BootTime) -> Option<Response> {
    let token = served.container_token.as_ref()?;
    let path = request.target.split('?').next().unwrap_or_default();
    let name = path.strip_prefix(ROOT)?.trim_end_matches('/');
    Some(answer_name(request, name, token, served, now).unwrap_or_else(|refusal| refusal))
}

fn answer_name(
    request: &Request,
    name: &str,
    token: &Secret,
    served: &ServerState,
    now: BootTime,
) -> Result<Response, Response> {
    if request.header("X-Forwarded-For").is_some() {
        let why = error(
            Status::Forbidden,
            "Forbidden",
            "a request with X-Forwarded-For is not answered",
        );
        return Err(why.refused(Refusal::Forwarded));
    }
    if !matches!(request.method, "GET" | "HEAD") {
        let why = error(Status::MethodNotAllowed, "MethodNotAllowed", "send GET");
        return Err(why.with("Allow", "GET, HEAD").refused(Refusal::Method));
    }
    // The header's value as it is: SDKs add no scheme, and the file may hold one.
    match request.header("Authorization") {
        None => {
            let why = error(
                Status::Unauthorized,
                "Unauthorized",
                "no Authorization header: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            );
            return Err(why.refused(Refusal::NoToken));
        }
        Some(settings) if !token.equals(settings) => {
            let why = error(
                Status::Unauthorized,
                "Unauthorized",
                "the Authorization header does not hold the token of this server",
            );
            return Err(why.refused(Refusal::BadToken));
        }
        Some(_) => {}
    }
    if name != served.role_name.as_str() {
        return Err(error(
            Status::NotFound,
            "InvalidIdInRequest",
            "no credentials by this name",
        ));
    }
    let Some(credential) = served.valid_credential(now) else {
        return Err(error(
            Status::InternalServerError,
            "CredentialsUninitialized",
            "no valid credentials at present",
        ));
    };
    let document = json!({
        "RoleArn": served.role.as_str(),
        "AccessKeyId": credential.access_key_id,
        "SecretAccessKey": credential.secret_access_key.expose(),
        "Token": credential.session_token.expose(),
        "Expiration": clock::iso8601(credential.expiration),
    });
    Ok(Response::text(document.to_string()).typed("application/json"))
}

/// In both spellings: Go's SDK reads the small letters, JavaScript's the capitals.
fn error(status: Status, code: &str, message: &str) -> Response {
    let document = json!({ "code": code, "message": message, "Code": code, "Message": message });
    Response::text(document.to_string())
        .status(status)
        .typed("application/json")
}
