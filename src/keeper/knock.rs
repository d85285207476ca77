//! A knock at the server's front door: a request as any client's, from this machine to itself, without waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::clock::Boot;
use crate::own_door;

/// How often to knock. Three in vain and the time until the next make a server that was stopped be replaced within 3 s.
pub const INTERVAL: Duration = Duration::from_millis(700);
/// So many in vain in a row, and the server is replaced.
pub const MAX_IN_VAIN: u32 = 3;

/// A knock that waits for its answer.
pub struct Knock {
    /// To be polled: for writing until it [`has_asked`](Knock::has_asked), then for reading.
    pub stream: TcpStream,
    /// Whether the request is sent.
    pub has_asked: bool,
    /// When it is in vain.
    pub deadline: Boot,
    request: String,
}

/// What has become of a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing yet.
    Waiting,
    /// An answer.
    Answer,
    /// It was cut off.
    Nothing,
}

impl Knock {
    /// Begins one. `None` if this machine does not have the address now.
    pub fn begin(address: SocketAddr, path: &str, now: Boot) -> Option<Self> {
        let stream = own_door::connect(address)?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        Some(Knock {
            stream,
            has_asked: false,
            deadline: now.after(INTERVAL),
            request,
        })
    }

    /// Goes on as far as it can without waiting.
    pub fn go_on(&mut self) -> Heard {
        let outcome = if self.has_asked {
            self.stream.read(&mut [0; 16])
        } else {
            self.stream.write(self.request.as_bytes())
        };
        match outcome {
            Ok(0) => Heard::Nothing,
            Ok(_) if self.has_asked => Heard::Answer,
            Ok(_) => {
                self.has_asked = true;
                Heard::Waiting
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
                ) =>
            {
                Heard::Waiting
            }
            Err(_) => Heard::Nothing,
        }
    }
}
