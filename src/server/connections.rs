//! The gate: all clients' connections. One request is read from each, as a whole and within bounds, and one answer written.
//!
//! Whatever a client does costs one descriptor, and its part of [`MAX_HELD_BYTES`], until its time is over or its place is wanted.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::{Resource, getrlimit};

use super::request_head::{self, RequestHead};

/// From its arrival to its end a connection has so long. SDKs send at once, and give up after one or two seconds.
const LONGEST: Duration = Duration::from_secs(3);
/// So many clients wait, for a moment, when a crowd comes at once. Whoever comes when all places are taken gets that of the one who
/// has been there longest: an honest client has gone after milliseconds.
const MAX_CLIENTS: usize = 1024;
/// What is held of heads that have not ended and of answers that are not taken. When it is more the one who holds most goes: an
/// SDK is never that.
const MAX_HELD_BYTES: usize = 1024 * 1024;
/// What this process has open beside its clients: three standard streams, the listener, the channel, epoll, and four of tiny_http's
/// connection; what it may have inherited; a socket that tells where a client is; and the client who is let in before another goes.
const OTHER_DESCRIPTORS: u64 = 16;
/// Of what a client sends after its request so much is read and thrown away, so that the answer reaches it: to close on what is
/// unread resets the connection.
const MAX_LEFT_BYTES: usize = 64 * 1024;
/// Slept where the system has no descriptor to give and nobody is in who could give one: epoll would tell of the same client at once.
const PAUSE: Duration = Duration::from_millis(10);
/// What epoll tells at a time. Of those who come, as many are let in before it is asked again, in turn with those who are in: neither
/// has to wait for all of the others.
const EVENTS: usize = 64;

const LISTENER: u64 = 0;
const KEEPER: u64 = 1;
const FIRST_CLIENT: u64 = 2;

pub struct Connections {
    listener: TcpListener,
    epoll: OwnedFd,
    events: Vec<Event>,
    /// What epoll has told and was not looked at yet.
    ready: VecDeque<u64>,
    /// Since epoll was asked.
    let_in: usize,
    /// By their numbers, and so in the order of their arrival.
    clients: BTreeMap<u64, Client>,
    next_number: u64,
    max_clients: usize,
    held_bytes: usize,
    buffer: Box<[u8; request_head::MAX_BYTES]>,
}

/// What there is to do.
pub enum Next {
    /// An answer.
    Answer(Client, RequestHead),
    /// To hear the supervisor.
    Supervisor,
    /// Nothing: the time is over.
    Nothing,
}

pub struct Client {
    peer: Option<SocketAddr>,
    number: u64,
    stream: TcpStream,
    deadline: Instant,
    state: State,
}

enum State {
    /// The head has come so far.
    Asking(Vec<u8>),
    /// This much of the answer is still to be written; then the connection is closed or, if the client goes on, read to its end.
    Answered { rest: Vec<u8>, has_more_input: bool },
    /// Has its answer; so many bytes more were thrown away.
    Leaving(usize),
}

impl Connections {
    /// On a listening socket; `supervisor` is looked after too.
    pub fn open(listener: TcpListener, supervisor: impl AsFd) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        // Told once for all that it says, also when it has gone.
        epoll::add(
            &epoll,
            supervisor,
            EventData::new_u64(KEEPER),
            EventFlags::IN | EventFlags::ET,
        )?;
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room =
            usize::try_from(descriptors.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX);
        Ok(Connections {
            listener,
            epoll,
            events: Vec::with_capacity(EVENTS),
            ready: VecDeque::with_capacity(EVENTS),
            let_in: 0,
            clients: BTreeMap::new(),
            next_number: FIRST_CLIENT,
            max_clients: room.clamp(1, MAX_CLIENTS),
            held_bytes: 0,
            buffer: Box::new([0; request_head::MAX_BYTES]),
        })
    }

    /// Lets nobody in any more.
    pub fn close(&mut self) {
        _ = epoll::delete(&self.epoll, &self.listener);
        self.ready.retain(|number| *number != LISTENER);
    }

    /// Waits for what is to be done next. With an end it gives up then, or as soon as nobody is in.
    pub fn next(&mut self, end: Option<Instant>) -> io::Result<Next> {
        loop {
            let wanted = match self.ready.pop_front() {
                Some(KEEPER) => return Ok(Next::Supervisor),
                Some(LISTENER) => self.accept()?.and_then(|client| self.read(client)),
                Some(number) => self.take(number).and_then(|client| self.go_on(client)),
                None if end.is_some_and(|end| self.clients.is_empty() || end <= Instant::now()) => {
                    return Ok(Next::Nothing);
                }
                None => {
                    self.wait(end)?;
                    None
                }
            };
            if let Some((client, asked)) = wanted {
                return Ok(Next::Answer(client, asked));
            }
        }
    }

    /// Answers; `goes_on` says whether the client has sent, or will send, more than was asked.
    pub fn answer(&mut self, mut client: Client, answer: Vec<u8>, has_more_input: bool) {
        client.state = State::Answered {
            rest: answer,
            has_more_input,
        };
        self.write(client);
    }

    /// Ends those whose time is over, and waits until there is something to do, or may be.
    fn wait(&mut self, end: Option<Instant>) -> io::Result<()> {
        let now = Instant::now();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.end_oldest();
        }
        let next = [self.next_deadline(), end].into_iter().flatten().min();
        let timeout =
            next.and_then(|next| Timespec::try_from(next.saturating_duration_since(now)).ok());
        self.events.clear();
        self.let_in = 0;
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.ready
            .extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }

    /// Of the one who has waited longest.
    fn next_deadline(&self) -> Option<Instant> {
        let oldest = self.clients.values().next();
        oldest.map(|client| client.deadline)
    }

    fn accept(&mut self) -> io::Result<Option<Client>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (stream, peer) = match acceptfrom_with(&self.listener, flags) {
            Ok(accepted) => accepted,
            // The listening socket itself is gone.
            Err(error @ (Errno::INVAL | Errno::BADF)) => return Err(error.into()),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                if !self.end_oldest() {
                    std::thread::sleep(PAUSE);
                }
                return Ok(None);
            }
            // There was nobody else, or it has gone again.
            Err(_) => return Ok(None),
        };
        if self.clients.len() >= self.max_clients {
            self.end_oldest();
        }
        if self.let_in < EVENTS {
            self.let_in += 1;
            self.ready.insert(self.ready.len().min(1), LISTENER);
        }
        let number = self.next_number;
        self.next_number += 1;
        Ok(Some(Client {
            peer: peer.and_then(|peer| SocketAddr::try_from(peer).ok()),
            number,
            stream: TcpStream::from(stream),
            deadline: Instant::now() + LONGEST,
            state: State::Asking(Vec::new()),
        }))
    }

    /// Ends the one who has waited longest, and says whether there was one.
    fn end_oldest(&mut self) -> bool {
        let oldest = self.clients.first_key_value().map(|(number, _)| *number);
        oldest.and_then(|number| self.take(number)).is_some()
    }

    /// Ends the one who holds most; of those that hold as much the one who has waited longest.
    fn end_largest(&mut self) {
        let clients = self.clients.iter().rev();
        if let Some((number, _)) = clients.max_by_key(|(_, client)| client.held_bytes()) {
            self.take(*number);
        }
    }

    fn take(&mut self, number: u64) -> Option<Client> {
        let client = self.clients.remove(&number)?;
        self.held_bytes -= client.held_bytes();
        Some(client)
    }

    /// Keeps a client until it can be read from, or written to.
    fn keep(&mut self, client: Client, until: EventFlags) {
        let number = EventData::new_u64(client.number);
        let watched =
            epoll::add(&self.epoll, &client.stream, number, until).or_else(|error| match error {
                Errno::EXIST => epoll::modify(&self.epoll, &client.stream, number, until),
                error => Err(error),
            });
        if watched.is_ok() {
            self.held_bytes += client.held_bytes();
            self.clients.insert(client.number, client);
        }
        while self.held_bytes > MAX_HELD_BYTES {
            self.end_largest();
        }
    }

    fn go_on(&mut self, client: Client) -> Option<(Client, RequestHead)> {
        match client.state {
            State::Asking(_) => return self.read(client),
            State::Answered { .. } => self.write(client),
            State::Leaving(_) => self.leave(client),
        }
        None
    }

    /// Reads what has come. Gives the client back with what it asks; one that has gone is dropped.
    fn read(&mut self, mut client: Client) -> Option<(Client, RequestHead)> {
        let State::Asking(head) = &mut client.state else {
            return None;
        };
        // Of what is there, at most what a head may still have.
        let room = &mut self.buffer[..request_head::MAX_BYTES - head.len()];
        match client.stream.read(room) {
            Ok(0) => return None,
            Ok(length) => {
                let piece = &room[..length];
                let asked = if head.is_empty() {
                    RequestHead::read(piece)
                } else {
                    head.extend_from_slice(piece);
                    // No other byte ends a head, and one that comes byte by byte is not to be read as often.
                    let may_end = piece.contains(&b'\n') || head.len() == request_head::MAX_BYTES;
                    may_end.then(|| RequestHead::read(head)).flatten()
                };
                if let Some(asked) = asked {
                    return Some((client, asked));
                }
                if head.is_empty() {
                    head.extend_from_slice(piece);
                }
            }
            Err(error) if is_not_yet(&error) => {}
            Err(_) => return None,
        }
        self.keep(client, EventFlags::IN);
        None
    }

    fn write(&mut self, mut client: Client) {
        let State::Answered {
            rest,
            has_more_input,
        } = &mut client.state
        else {
            return;
        };
        match client.stream.write(rest) {
            Ok(length) => _ = rest.drain(..length),
            Err(error) if is_not_yet(&error) => {}
            Err(_) => return,
        }
        if !rest.is_empty() {
            self.keep(client, EventFlags::OUT);
        } else if *has_more_input && client.stream.shutdown(Shutdown::Write).is_ok() {
            client.state = State::Leaving(0);
            self.leave(client);
        }
    }

    fn leave(&mut self, mut client: Client) {
        let State::Leaving(left) = &mut client.state else {
            return;
        };
        match client.stream.read(&mut self.buffer[..]) {
            Ok(0) => return,
            Ok(length) => *left += length,
            Err(error) if is_not_yet(&error) => {}
            Err(_) => return,
        }
        if *left <= MAX_LEFT_BYTES {
            self.keep(client, EventFlags::IN);
        }
    }
}

impl Client {
    /// Its address; an IPv4 one as such, also where the socket is for IPv6.
    pub fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }

    /// Which of this machine's addresses it has asked.
    pub fn asked(&self) -> Option<IpAddr> {
        let asked = self.stream.local_addr().ok()?;
        Some(asked.ip().to_canonical())
    }

    /// What is held of a head that has not ended, or of an answer that is not taken.
    fn held_bytes(&self) -> usize {
        match &self.state {
            State::Asking(held) | State::Answered { rest: held, .. } => held.capacity(),
            State::Leaving(_) => 0,
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1024).unwrap();
        let address = listener.local_addr().unwrap();
        let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        (Connections::open(listener, theirs).unwrap(), address)
    }

    #[test]
    fn an_answer_larger_than_any_buffer_is_written_as_it_is_read() {
        const LENGTH: usize = MAX_HELD_BYTES / 2;
        let (mut connections, address) = connections();
        // What is accepted inherits it.
        rustix::net::sockopt::set_socket_send_buffer_size(&connections.listener, 4096).unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).map(|_| answer.len())
        });
        let Ok(Next::Answer(asking, asked)) = connections.next(None) else {
            panic!("nobody came");
        };
        connections.answer(asking, vec![b'x'; LENGTH], asked.has_more_input);
        assert_eq!(connections.clients.len(), 1);
        let end = Some(Instant::now() + LONGEST);
        assert!(matches!(connections.next(end), Ok(Next::Nothing)));
        assert_eq!(client.join().unwrap().unwrap(), LENGTH);
    }

    #[test]
    fn of_heads_that_do_not_end_no_more_is_held_than_is_said_and_who_holds_most_goes_first() {
        let (mut connections, address) = connections();
        let connect = |length: usize| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
            stream.write_all(&vec![b'x'; length]).unwrap();
            stream
        };
        let small = connect(200);
        let large: Vec<_> = (0..400).map(|_| connect(5_000)).collect();
        let end = Instant::now() + LONGEST / 2;
        while connections.next_number < FIRST_CLIENT + 401 {
            assert!(Instant::now() < end, "{} came", connections.next_number);
            connections.wait(Some(end)).unwrap();
            while !connections.ready.is_empty() {
                assert!(matches!(
                    connections.next(Some(Instant::now())),
                    Ok(Next::Nothing)
                ));
            }
        }
        let held = connections
            .clients
            .values()
            .map(Client::held_bytes)
            .sum::<usize>();
        assert_eq!(held, connections.held_bytes);
        assert!(
            held <= MAX_HELD_BYTES && connections.clients.len() < 400,
            "{held}"
        );
        let first = connections.clients.values().next().unwrap();
        assert_eq!(first.peer, Some(small.local_addr().unwrap()));
        drop(large);
    }
}
