//! Holds the server's state, and the parts of responses that depend only on this state. These parts are computed at each change
//! of the state, not at each request.

use crate::common::{Secret, Snapshot, TokenAuthority};
use crate::messages::{ServerState, ServerUpdate, from_frame};

pub struct ResponseState {
    /// The state as the supervisor sent it, but without `metadata`, which is decoded into `snapshot`.
    pub server: ServerState,
    pub tokens: TokenAuthority,
    /// The credential document in EC2's form.
    pub document: Option<Secret>,
    /// The header lines that EC2 sends with every item. `Last-Modified` is the time when STS issued the credential.
    pub item_headers: String,
    /// The host's metadata for `--pass-through`, decoded.
    pub snapshot: Option<Snapshot>,
}

impl From<ServerState> for ResponseState {
    fn from(server: ServerState) -> Self {
        let mut state = ResponseState {
            tokens: TokenAuthority::new(&server.token_key),
            document: None,
            item_headers: String::new(),
            snapshot: None,
            server,
        };
        state.derive();
        state
    }
}

impl ResponseState {
    pub fn apply(&mut self, update: ServerUpdate) {
        self.server.apply(update);
        self.derive();
    }

    fn derive(&mut self) {
        let credential = self.server.credential.as_ref();
        let account_id = self.server.role.account_id();
        self.document =
            credential.map(|credential| Secret::new(credential.ec2_document(account_id)));
        let last_modified = credential.map(|it| httpdate::fmt_http_date(it.last_updated));
        let last_modified = last_modified.map(|date| format!("Last-Modified: {date}\r\n"));
        self.item_headers = format!("Accept-Ranges: none\r\n{}", last_modified.unwrap_or_default());
        // Drop the encoded form: it is as large as the decoded snapshot, and no response needs it.
        if let Some(metadata) = self.server.metadata.take() {
            self.snapshot = from_frame(metadata);
        }
    }
}
