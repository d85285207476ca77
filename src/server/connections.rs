//! The connection table: accepts clients, waits for their sockets, and bounds their descriptors and memory.
//!
//! A connection uses one descriptor and a share of [`MAX_BUFFERED_BYTES`] until it is finished or evicted, at the latest until
//! the end of its lifetime.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::{Resource, getrlimit};

use super::connection::{Buffer, Connection, Progress};
use super::request_head::{self, RequestHead};
use crate::common::{limit, log};

/// Maximum concurrent connections. At the limit the oldest is evicted. This is hardly ever a normal client's connection, which
/// is done in milliseconds.
const MAX_CONNECTIONS: usize = 1024;
/// Maximum memory for incomplete heads and unsent responses. Above it the connection that buffers most is evicted. An SDK's
/// connection usually buffers nothing: its head arrives in one piece, and the socket takes the whole response.
const MAX_BUFFERED_BYTES: usize = 1024 * 1024;
/// Descriptors reserved for all uses but the clients' open connections. [`super::MAX_BATCH`] of them are for a batch of requests,
/// four for the connection to tiny_http, and three for the kernel's address tables. The others are for standard streams, the
/// listener, the control channel, epoll, the log, a client that is just accepted, and inherited descriptors.
const OTHER_DESCRIPTORS: u64 = 32;
/// Last part of [`super::DRAIN_TIME`], in which the server accepts no client and only responds to earlier ones. Under load the
/// accept queue never becomes empty, so a server that accepted until its exit would not respond to the last clients.
const LAST_RESPONSES: Duration = Duration::from_millis(200);
/// Pause of the server's loop after an error of accept4 that no eviction can remove, such as a sandbox's refusal. Without the
/// pause the loop would spin, because epoll reports the listener again at once. The pause also delays the open connections, but
/// after such an error there are hardly any.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Minimum time between two warnings about a failing accept4. Near a limit of descriptors or memory, accept4 fails and succeeds
/// in turn, so a warning for each failure would fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of events that one `epoll_wait` returns, and about the maximum number of clients that are accepted before the
/// next `epoll_wait`. Without this bound, a flood of new clients would delay the clients that are already connected.
const BATCH: usize = 64;

/// A connection is read right after accept: if its request has already arrived, it need not be registered with epoll. If such an
/// early read finds no whole request, only one in `SAMPLE` new connections is read early, until a whole request is found.
const SAMPLE: u64 = 16;

const LISTENER: u64 = 0;
const CONTROL_CHANNEL: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

pub struct Connections {
    listener: TcpListener,
    epoll: OwnedFd,
    events: Vec<Event>,
    /// Ids that epoll has reported and that have not been handled yet.
    ready: VecDeque<u64>,
    accepted_in_batch: usize,
    /// When the cause of a failed accept4 may be logged again.
    next_warning: Option<Instant>,
    /// Open connections by id; ids ascend, so the first one is the oldest.
    open: BTreeMap<u64, Connection>,
    next_id: u64,
    /// The end of the drain time; `None` until [`Self::finish_accepting`] is called.
    drain_deadline: Option<Instant>,
    /// Whether every new connection is read right after accept; otherwise only one in `SAMPLE` is.
    reads_early: bool,
    limit: usize,
    buffered_bytes: usize,
    buffer: Box<Buffer>,
}

/// The caller's next action.
pub enum Next {
    /// Respond to this request.
    Request(Connection, RequestHead),
    /// Receive from the supervisor.
    ControlChannel,
    /// Exit: the drain time is over, or every open request has its response.
    Done,
}

impl Connections {
    pub fn new(listener: TcpListener, control_channel: impl AsFd) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        // Edge-triggered: new data or a hang-up gives one event, and then `Channel::receive` reads until the socket is empty.
        epoll::add(
            &epoll,
            control_channel,
            EventData::new_u64(CONTROL_CHANNEL),
            EventFlags::IN | EventFlags::ET,
        )?;
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = usize::try_from(descriptors.saturating_sub(OTHER_DESCRIPTORS));
        Ok(Connections {
            listener,
            epoll,
            events: Vec::with_capacity(BATCH),
            ready: VecDeque::with_capacity(BATCH),
            accepted_in_batch: 0,
            next_warning: None,
            open: BTreeMap::new(),
            next_id: FIRST_CONNECTION,
            drain_deadline: None,
            reads_early: true,
            limit: room.unwrap_or(usize::MAX).clamp(1, MAX_CONNECTIONS),
            buffered_bytes: 0,
            buffer: Box::new([0; request_head::MAX_BYTES]),
        })
    }

    /// Starts the drain time. Clients in the accept queue are still accepted, because the kernel would reset them when the
    /// listener closes. Accepting ends when the queue is empty, or when less than [`LAST_RESPONSES`] is left until the deadline.
    pub fn finish_accepting(&mut self, drain_deadline: Instant) {
        _ = epoll::delete(&self.epoll, &self.listener);
        self.ready.retain(|id| *id != LISTENER);
        self.ready.push_back(LISTENER);
        self.drain_deadline.get_or_insert(drain_deadline);
    }

    /// Handles one event that is ready, or waits for events. `now` is the current time.
    pub fn step(&mut self, now: Instant) -> io::Result<Option<Next>> {
        let request = match self.ready.pop_front() {
            Some(CONTROL_CHANNEL) => return Ok(Some(Next::ControlChannel)),
            Some(LISTENER) if self.drain_deadline.is_some_and(|end| end < now + LAST_RESPONSES) => {
                None
            }
            Some(LISTENER) => self.accept(now),
            Some(id) => self.take(id).and_then(|connection| self.advance(connection)),
            None if self.drain_deadline.is_some_and(|end| self.open.is_empty() || end <= now) => {
                return Ok(Some(Next::Done));
            }
            None => {
                self.abort_overdue(now);
                self.wait(now)?;
                None
            }
        };
        Ok(request.map(|(connection, head)| Next::Request(connection, head)))
    }

    /// Whether the next `step` can handle an event without waiting.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sends a response. `has_more_input`: the client sends more than the request head, so the connection lingers.
    pub fn respond(&mut self, mut connection: Connection, response: Vec<u8>, has_more_input: bool) {
        connection.set_response(response, has_more_input);
        self.advance(connection);
    }

    fn abort_overdue(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.evict_oldest();
        }
    }

    fn wait(&mut self, now: Instant) -> io::Result<()> {
        let until = [self.next_deadline(), self.drain_deadline].into_iter().flatten().min();
        let timeout =
            until.and_then(|until| Timespec::try_from(until.saturating_duration_since(now)).ok());
        self.events.clear();
        self.accepted_in_batch = 0;
        let room = spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.ready.extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }

    /// The deadline of the oldest connection, which is the earliest: all connections have the same lifetime.
    fn next_deadline(&self) -> Option<Instant> {
        self.open.values().next().map(|oldest| oldest.deadline)
    }

    fn accept(&mut self, now: Instant) -> Option<(Connection, RequestHead)> {
        // Poll the listener before accept4, because accept4 without a client blocks the loop if the listener is blocking. systemd
        // makes its listener blocking when it runs a command of the unit, such as `systemctl reload` (`fd_nonblock` in
        // exec-invoke.c). The first accept4 after epoll has reported the listener needs no poll, because a client is waiting.
        let is_reported = self.accepted_in_batch == 0 && self.drain_deadline.is_none();
        if !is_reported && !self.has_client() {
            return None;
        }
        if self.drain_deadline.is_some() {
            self.ready.push_back(LISTENER);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (stream, peer) = match acceptfrom_with(&self.listener, flags) {
            Ok(accepted) => accepted,
            // The client has reset its connection, another process has accepted this connection, or a signal interrupted the
            // call.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return None,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                if self.evict_oldest() =>
            {
                return None;
            }
            Err(error) => {
                if self.next_warning.is_none_or(|next| next <= now) {
                    self.next_warning = Some(now + WARNING_INTERVAL);
                    let cause = limit::name(&error.into());
                    log::warning(&format!("no new client is answered: accept4: {cause}"));
                }
                std::thread::sleep(ACCEPT_BACK_OFF);
                return None;
            }
        };
        // `peer?` drops no client: for a TCP socket accept4 always gives the client's address.
        let peer = SocketAddr::try_from(peer?).ok()?.ip().to_canonical();
        if self.open.len() >= self.limit {
            self.evict_oldest();
        }
        if self.accepted_in_batch < BATCH && self.drain_deadline.is_none() {
            self.accepted_in_batch += 1;
            // Queue the listener behind one other event, so that accepts and other events alternate.
            self.ready.insert(self.ready.len().min(1), LISTENER);
        }
        let id = self.next_id;
        self.next_id += 1;
        let connection = Connection::new(id, TcpStream::from(stream), peer, now);
        let request = if self.reads_early || id.is_multiple_of(SAMPLE) {
            self.advance(connection)
        } else {
            self.keep(connection, EventFlags::IN);
            None
        };
        self.reads_early = !self.open.contains_key(&id);
        request
    }

    fn has_client(&self) -> bool {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        poll(&mut listener, Some(&Timespec::default())) != Ok(0)
    }

    /// Aborts the oldest connection; `false` if there is none.
    fn evict_oldest(&mut self) -> bool {
        self.evict(self.open.keys().next().copied())
    }

    /// Aborts the connection that buffers most; if several buffer equally much, the oldest of them.
    fn evict_largest(&mut self) {
        let newest_first = self.open.values().rev();
        let largest = newest_first.max_by_key(|connection| connection.buffered_bytes());
        self.evict(largest.map(|connection| connection.id));
    }

    fn evict(&mut self, id: Option<u64>) -> bool {
        let evicted = id.and_then(|id| self.take(id));
        evicted.map(Connection::abort).is_some()
    }

    fn take(&mut self, id: u64) -> Option<Connection> {
        let connection = self.open.remove(&id)?;
        self.buffered_bytes -= connection.buffered_bytes();
        Some(connection)
    }

    /// Advances a connection and returns it with its request head if that is complete; otherwise keeps or closes the connection.
    fn advance(&mut self, mut connection: Connection) -> Option<(Connection, RequestHead)> {
        match connection.advance(&mut self.buffer)? {
            Progress::Request(head) => return Some((connection, head)),
            Progress::Pending(events) => self.keep(connection, events),
        }
        None
    }

    fn keep(&mut self, connection: Connection, events: EventFlags) {
        let id = EventData::new_u64(connection.id);
        let watched = match epoll::add(&self.epoll, &connection.stream, id, events) {
            Err(Errno::EXIST) => epoll::modify(&self.epoll, &connection.stream, id, events),
            result => result,
        };
        if watched.is_ok() {
            self.buffered_bytes += connection.buffered_bytes();
            self.open.insert(connection.id, connection);
        }
        while self.buffered_bytes > MAX_BUFFERED_BYTES {
            self.evict_largest();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::connection::MAX_LIFETIME;
    use super::*;

    fn connections() -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1024).unwrap();
        let address = listener.local_addr().unwrap();
        let (_, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        (Connections::new(listener, theirs).unwrap(), address)
    }

    /// Steps until `count` connections have been accepted since the start of the test and all ready events are handled.
    fn accept_all(connections: &mut Connections, count: u64, now: Instant) {
        while connections.next_id < FIRST_CONNECTION + count || !connections.ready.is_empty() {
            assert!(connections.step(now).unwrap().is_none());
        }
    }

    /// Returns the open connections, numbered from 0 in the order in which they were accepted.
    fn open(connections: &Connections) -> Vec<u64> {
        let ids = connections.open.keys();
        ids.map(|id| id - FIRST_CONNECTION).collect()
    }

    #[test]
    fn a_connection_is_aborted_at_the_end_of_its_lifetime() {
        let (mut connections, address) = connections();
        let start = Instant::now();
        let mut first = TcpStream::connect(address).unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
        accept_all(&mut connections, 1, start);
        let _second = TcpStream::connect(address).unwrap();
        accept_all(&mut connections, 2, start + MAX_LIFETIME / 2);
        // Further bytes do not prolong the lifetime.
        first.write_all(b"x").unwrap();
        let end = start + MAX_LIFETIME;
        connections.abort_overdue(end - Duration::from_nanos(1));
        assert_eq!(open(&connections), [0, 1]);
        connections.abort_overdue(end);
        assert_eq!(open(&connections), [1]);
        connections.abort_overdue(end + MAX_LIFETIME / 2);
        assert!(open(&connections).is_empty());
    }

    #[test]
    fn oldest_connection_is_evicted_at_the_limit() {
        let (mut connections, address) = connections();
        connections.limit = 3;
        let connect = || TcpStream::connect(address).unwrap();
        let _clients: Vec<_> = (0..5).map(|_| connect()).collect();
        accept_all(&mut connections, 5, Instant::now());
        assert_eq!(open(&connections), [2, 3, 4]);
    }

    #[test]
    fn clients_waiting_at_shutdown_are_accepted_and_no_others() {
        const WAITING: u64 = 3 * BATCH as u64;
        let (mut connections, address) = connections();
        let _waiting: Vec<_> = (0..WAITING).map(|_| TcpStream::connect(address).unwrap()).collect();
        let now = Instant::now();
        let end = now + 2 * LAST_RESPONSES;
        connections.finish_accepting(end);
        accept_all(&mut connections, WAITING, now);
        let _later = TcpStream::connect(address).unwrap();
        while connections.step(end).unwrap().is_none() {}
        assert_eq!(open(&connections), Vec::from_iter(0..WAITING));
    }

    #[test]
    fn no_client_is_accepted_late_in_the_drain_time() {
        let (mut connections, address) = connections();
        let _waiting = TcpStream::connect(address).unwrap();
        let now = Instant::now();
        connections.finish_accepting(now + LAST_RESPONSES - Duration::from_nanos(1));
        while connections.step(now).unwrap().is_none() {}
        assert!(open(&connections).is_empty() && connections.next_id == FIRST_CONNECTION);
    }

    #[test]
    fn a_response_larger_than_the_socket_buffer_is_written_whole() {
        const LENGTH: usize = MAX_BUFFERED_BYTES / 2;
        let (mut connections, address) = connections();
        // Make the send buffer small, so that the response takes many writes. Accepted sockets inherit the listener's size.
        rustix::net::sockopt::set_socket_send_buffer_size(&connections.listener, 4096).unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut response = Vec::new();
            stream.read_to_end(&mut response).map(|_| response.len())
        });
        let (connection, head) = loop {
            if let Some(Next::Request(connection, head)) = connections.step(Instant::now()).unwrap()
            {
                break (connection, head);
            }
        };
        connections.respond(connection, vec![b'x'; LENGTH], head.has_more_input);
        assert_eq!(connections.open.len(), 1);
        connections.drain_deadline = Some(Instant::now() + MAX_LIFETIME);
        while connections.step(Instant::now()).unwrap().is_none() {}
        assert_eq!(client.join().unwrap().unwrap(), LENGTH);
    }

    #[test]
    fn the_connection_that_buffers_most_is_evicted_first() {
        const LARGE: u64 = 400;
        let (mut connections, address) = connections();
        let connect = |length: usize| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
            stream.write_all(&vec![b'x'; length]).unwrap();
            stream
        };
        let _small = connect(200);
        let _large: Vec<_> = (0..LARGE).map(|_| connect(5_000)).collect();
        accept_all(&mut connections, 1 + LARGE, Instant::now());
        let buffered = connections.open.values().map(Connection::buffered_bytes);
        let buffered = buffered.sum::<usize>();
        assert_eq!(buffered, connections.buffered_bytes);
        assert!(buffered <= MAX_BUFFERED_BYTES && open(&connections)[0] == 0, "{buffered}");
        // Of the large connections, which buffer equally much, the oldest were evicted.
        let kept = open(&connections).len() as u64 - 1;
        assert_eq!(open(&connections)[1], LARGE - kept + 1);
    }
}
