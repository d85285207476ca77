//! One attack after another, while a victim fetches: see scripts/test-hostile.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::attack::Target;
use crate::bounds::Bounds;
use crate::client::{self, Figures};
use crate::processes::{self, Held};
use crate::subject::Subject;
use crate::support::Directory;
use crate::support::attack::{self, Attack, Form};
use crate::support::container::Container;
use crate::support::http::{self, DOCUMENT_PATH, TOKEN, connections, request_with};
use crate::support::sts::access_key_id;

const VICTIM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Minimum percentage of successful fetches. A failed or late fetch makes an SDK retry or give up.
const LEAST_SUCCESS: f64 = 99.9;
const MAX_P99: Duration = Duration::from_millis(20);
/// Go's SDK gives up after this time.
const MAX_SLOWEST: Duration = Duration::from_millis(500);
const MAX_PEAK_KIB: u64 = 16 * 1024;
const MAX_AFTER_KIB: u64 = 4 * 1024;
/// Maximum size of the log: 2,000 request lines of at most 400 bytes each. ec2-role logs at most 1,000 requests in each minute,
/// and an attack of the usual 30 s touches at most two minutes.
const MAX_LOG_BYTES: u64 = 800_000;
/// Number of samples of memory, threads and descriptors after an attack. A fetcher that runs for a short time raises some
/// samples, so the minimum of each value is reported.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Attacks from a container, or by another user of the host. The attacks of `support::attack` come from clients on loopback.
#[derive(Clone, Copy)]
enum Other {
    /// A container whose clients send a request, and then acknowledge no further packet.
    Vanish,
    /// A container that begins connections from many addresses and completes none.
    Forge,
    /// Another user of the host, who sends signals to ec2-role's processes and tries to read their memory and environment.
    User,
}

/// Source addresses of the forged connections; [`FORGE`] adds them to the container.
fn sources() -> Vec<Ipv4Addr> {
    (10..250)
        .map(|last| Ipv4Addr::new(192, 0, 2, last))
        .collect()
}

/// Makes clients vanish: iptables in the container drops the server's responses, the FIN of both sides and the client's RST.
const VANISH: &str = r"for flag in PSH FIN; do iptables -A INPUT -p tcp --tcp-flags \$flag \$flag -j DROP; done
    for flag in RST FIN; do iptables -A OUTPUT -p tcp --tcp-flags \$flag \$flag -j DROP; done";
const FORGE: &str = r"iptables -A INPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP
    for last in {10..249}; do ip address add 192.0.2.\$last/32 dev lo; done";
/// Sends signals to the processes, and tries to print their files in /proc, which other users may not read.
const STEAL: &str = "for pid; do kill -9 $pid; kill -STOP $pid; cd /proc/$pid && cat environ maps mem io stack syscall fd/*; done";

struct Row {
    name: &'static str,
    attacks: Vec<Form>,
    other: Option<Other>,
    bounds: Option<Bounds>,
    before: Vec<String>,
    stderr: Option<Stdio>,
    /// The directory of the log file, if stderr is a file.
    log: Option<Directory>,
    /// The read end of the pipe to which stderr is written. It is kept open and not read, so that the pipe gets full.
    _kept: Option<std::io::PipeReader>,
    /// Duration of the attack, as a multiple of the usual one.
    length: u32,
}

/// The results of an attack that is over.
struct Attacked {
    name: &'static str,
    subject: Subject,
    ended: Instant,
    figures: Figures,
    peak: Held,
    calls: usize,
    token: String,
    log: Option<Directory>,
    stolen: String,
    other: Option<Other>,
    /// How many connections to ec2-role's port the kernel had at the end of the attack; 0 if `other` is `None`.
    connections: usize,
    _kept: Option<std::io::PipeReader>,
    // Dropped last, because a control group can be removed only when its processes have ended.
    bounds: Option<Bounds>,
}

fn row(name: &'static str, attacks: Vec<Form>) -> Row {
    Row {
        name,
        attacks,
        other: None,
        bounds: None,
        before: Vec::new(),
        stderr: None,
        log: None,
        _kept: None,
        length: 1,
    }
}

fn named(name: &str) -> Form {
    let attack = attack::all().into_iter().find(|attack| attack.name == name);
    attack.expect("an attack").form
}

fn rows() -> Vec<Row> {
    let idle = || vec![named("2,000 idle connections")];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let puts = || vec![named("a flood of token PUTs")];
    let mut rows = vec![row("none", Vec::new())];
    rows.extend(
        attack::all()
            .into_iter()
            .map(|Attack { name, form }| row(name, vec![form])),
    );
    for (name, other) in [
        (
            "clients that vanish after their request, 150 a second",
            Other::Vanish,
        ),
        ("2,000 forged connections a second", Other::Forge),
        ("another user of the host", Other::User),
    ] {
        rows.push(Row {
            other: Some(other),
            // A quarter of a server's memory limit (scripts/ec2-role-network), because that limit must also hold the kernel's
            // memory for the attack's connections.
            bounds: Some(Bounds::memory(16 << 20)),
            ..row(name, Vec::new())
        });
    }
    let log = Directory::new();
    rows.push(Row {
        stderr: Some(File::create(log.path("log")).unwrap().into()),
        log: Some(log),
        ..row("a flood of token PUTs, stderr a file", puts())
    });
    rows.push(Row {
        before: words(&["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"]),
        ..row("256 descriptors, 2,000 idle connections", idle())
    });
    rows.push(Row {
        bounds: Some(Bounds::processes(64)),
        ..row("64 threads, 2,000 idle connections", idle())
    });
    let attacks = vec![
        named("2,000 idle connections"),
        named("128 MiB in one header line"),
    ];
    rows.push(Row {
        bounds: Some(Bounds::memory(16 << 20)),
        ..row(
            "a memory limit of 16 MB, idle connections, long lines",
            attacks,
        )
    });
    let (reader, writer) = std::io::pipe().unwrap();
    rows.push(Row {
        stderr: Some(writer.into()),
        _kept: Some(reader),
        ..row("stderr a pipe that nobody reads, token PUTs", puts())
    });
    rows.push(Row {
        before: words(&["sh", "-c", "exec \"$@\" 2>&-", "sh"]),
        ..row("stderr closed, token PUTs", puts())
    });
    let full = File::options().write(true).open("/dev/full").unwrap();
    rows.push(Row {
        stderr: Some(full.into()),
        ..row("stderr on a full disk, token PUTs", puts())
    });
    let all = attack::all()
        .into_iter()
        .map(|attack| attack.form)
        .collect();
    rows.push(Row {
        length: 2,
        ..row("all of these that come over the network together", all)
    });
    rows
}

/// Prints the table and returns the limits that were exceeded.
pub fn run(program: &str, seconds: u64, wait: u64, only: &str) -> Vec<String> {
    let (length, wait) = (Duration::from_secs(seconds), Duration::from_secs(wait));
    println!(
        "A victim fetches the document the whole way (token, list, document) every 10 ms. Each attack lasts {seconds} s, the last one twice that.\n"
    );
    println!(
        "| Attack | Victim's success | p99 | slowest | Peak memory | {} s after | Threads and descriptors left | STS calls caused |",
        wait.as_secs()
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut table = Table::default();
    let mut attacked: Vec<Attacked> = Vec::new();
    let chosen = |row: &Row| row.name == "none" || row.name.contains(only);
    for row in rows().into_iter().filter(chosen) {
        // A row is measured when at least the time `wait` has passed since its attack. Meanwhile the next attacks run.
        while attacked
            .first()
            .is_some_and(|first| first.ended.elapsed() >= wait)
        {
            table.add(attacked.remove(0));
        }
        attacked.push(attack_with(row, program, length));
    }
    for last in attacked {
        std::thread::sleep(wait.saturating_sub(last.ended.elapsed()));
        table.add(last);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nLoad of the machine at the end: {}", load.trim());
    table.notes.iter().for_each(|note| println!("{note}"));
    table.missed
}

fn attack_with(row: Row, program: &str, length: Duration) -> Attacked {
    let before = row
        .bounds
        .as_ref()
        .map_or(row.before, |bounds| bounds.command().into());
    let subject = Subject::start(program, &before, row.stderr, Ipv4Addr::UNSPECIFIED);
    let (address, supervisor) = (subject.ec2_role.address, subject.ec2_role.pid);
    let token = subject.ec2_role.token("21600");
    let ended = AtomicBool::new(false);
    let target = Target {
        address,
        from: Ipv4Addr::new(127, 0, 0, 3),
        ended: &ended,
    };
    let ended = &ended;
    let (figures, peak, stolen, connections) = std::thread::scope(|scope| {
        for form in &row.attacks {
            scope.spawn(|| target.attack(form));
        }
        let other = row
            .other
            .map(|other| scope.spawn(move || other.attack(address.port(), supervisor, ended)));
        let victim = scope.spawn(|| client::fetch_until(ended, VICTIM, address, &access_key_id(1)));
        let begun = Instant::now();
        let mut peak = Held::default();
        while begun.elapsed() < length * row.length {
            peak = peak.max(processes::held(supervisor));
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let connections = row.other.map_or(0, |_| connections(address.port()));
        ended.store(true, Ordering::Relaxed);
        let stolen = other.map(|other| other.join().unwrap());
        (
            victim.join().unwrap(),
            peak,
            stolen.unwrap_or_default(),
            connections,
        )
    });
    Attacked {
        name: row.name,
        calls: subject.sts.calls().len() - 1,
        subject,
        ended: Instant::now(),
        figures,
        peak,
        token,
        log: row.log,
        stolen,
        other: row.other,
        connections,
        _kept: row._kept,
        bounds: row.bounds,
    }
}

impl Other {
    /// Maximum number of connections to ec2-role's port that the kernel may keep at the end of the attack.
    fn most_connections(self) -> usize {
        match self {
            // 150 connections are opened each second, and the kernel retransmits on each for 1 s (TCP_USER_TIMEOUT). So about 150
            // exist at once; the factor 3 is a margin.
            Other::Vanish => 3 * 150,
            // The listener's backlog, and a margin. When the backlog is full, the kernel keeps no state (SYN cookies).
            Other::Forge => 4096 + 256,
            // This attack opens none; the fetches of the victim may still be open.
            Other::User => client::FETCHES as usize,
        }
    }

    /// Attacks until `ended` is set, and returns what [`Other::User`] could read.
    fn attack(self, port: u16, supervisor: Pid, ended: &AtomicBool) -> String {
        if let Other::User = self {
            return steal(supervisor, ended);
        }
        let container = Container::start();
        let script = if let Other::Vanish = self {
            VANISH
        } else {
            FORGE
        };
        container.run(script);
        let target = Target {
            address: (Ipv4Addr::new(192, 0, 2, 1), port).into(),
            from: Ipv4Addr::new(192, 0, 2, 2),
            ended,
        };
        container.enter(|| match self {
            Other::Forge => target.forge(2_000, &sources()),
            _ => target.attack(&Form::Hold {
                per_second: 150,
                max_open: 10,
                bytes: |_| request_with("").into_bytes(),
            }),
        });
        String::new()
    }
}

fn steal(supervisor: Pid, ended: &AtomicBool) -> String {
    let mut stolen = String::new();
    while !ended.load(Ordering::Relaxed) {
        let pids = processes::all(supervisor)
            .into_iter()
            .map(|pid| pid.to_string());
        let output = Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "sh",
                "-c",
                STEAL,
                "sh",
            ])
            .args(pids)
            .output()
            .unwrap();
        stolen += &String::from_utf8_lossy(&output.stdout);
    }
    stolen
}

#[derive(Default)]
struct Table {
    /// Resources held while nothing attacked (the row "none").
    quiet: Option<Held>,
    missed: Vec<String>,
    notes: Vec<String>,
}

impl Table {
    fn add(&mut self, row: Attacked) {
        let Attacked {
            name,
            subject,
            figures,
            peak,
            calls,
            ..
        } = &row;
        let supervisor = subject.ec2_role.pid;
        let looks = (0..LOOKS).map(|_| {
            std::thread::sleep(BETWEEN_LOOKS);
            processes::held(supervisor)
        });
        let after = looks.reduce(Held::min).unwrap_or_default();
        let quiet = *self.quiet.get_or_insert(after);
        let threads = after.threads.saturating_sub(quiet.threads);
        let descriptors = after.descriptors.saturating_sub(quiet.descriptors);
        let (success, p99, slowest) =
            (figures.success(), figures.within(0.99), figures.within(1.0));
        println!(
            "| {name} | {success:.2} % of {} | {:.1} ms | {:.0} ms | {:.1} MB | {:.1} MB | {threads}, {descriptors} | {calls} |",
            figures.times.len(),
            p99.as_secs_f64() * 1e3,
            slowest.as_secs_f64() * 1e3,
            peak.memory as f64 / 1024.0,
            after.memory as f64 / 1024.0,
        );
        for (why, count) in &figures.failures {
            self.notes.push(format!("{name}: {count} failed: {why}"));
        }
        let mut replaced = BTreeMap::<String, usize>::new();
        for line in subject.ec2_role.lines() {
            if let Some((_, why)) = line
                .split_once("server replaced")
                .and_then(|(_, why)| why.split_once(": "))
            {
                *replaced.entry(why.to_owned()).or_default() += 1;
            }
        }
        for (why, count) in replaced {
            self.notes
                .push(format!("{name}: {count} servers replaced: {why}"));
        }
        let still = http::request(
            subject.ec2_role.address,
            "GET",
            DOCUMENT_PATH,
            &[(TOKEN, &row.token)],
        );
        let file = row.log.as_ref().map(|log| log.path("log"));
        let log = file.map_or(0, |file| std::fs::metadata(file).unwrap().len());
        if log > 0 {
            self.notes
                .push(format!("{name}: a log of {} KiB", log >> 10));
        }
        if let Some(peak) = row.bounds.as_ref().and_then(Bounds::peak) {
            self.notes.push(format!(
                "{name}: its control group had at most {} KiB, the kernel {} connections",
                peak >> 10,
                row.connections
            ));
        }
        let most_connections = row.other.map_or(0, Other::most_connections);
        let bars = [
            (success >= LEAST_SUCCESS, "the victim's success"),
            (p99 <= MAX_P99, "p99"),
            (slowest <= MAX_SLOWEST, "the slowest"),
            (peak.memory <= MAX_PEAK_KIB, "peak memory"),
            (after.memory <= MAX_AFTER_KIB, "memory after"),
            // If stderr is a file, the log writer runs too. Its thread and descriptors would count as left by the attack.
            (threads == 0 || row.log.is_some(), "threads left"),
            (descriptors == 0 || row.log.is_some(), "descriptors left"),
            (*calls == 0, "STS calls"),
            (
                still.is_ok_and(|answer| answer.status == 200),
                "a token given before",
            ),
            (!leaves_core_files(subject), "core files"),
            (log <= MAX_LOG_BYTES, "size of the log"),
            (
                row.connections <= most_connections,
                "connections in the kernel",
            ),
            (row.stolen.is_empty(), "what another user could read"),
        ];
        let missed = bars.iter().filter(|(holds, _)| !holds);
        self.missed
            .extend(missed.map(|(_, bar)| format!("{name}: {bar}")));
    }
}

/// Whether there is a core file, or a process is allowed to write one.
fn leaves_core_files(subject: &Subject) -> bool {
    let files = std::fs::read_dir(subject.ec2_role.home.path("")).unwrap();
    let is_core = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("core");
    let may = |pid: &rustix::process::Pid| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero()));
        limits.is_ok_and(|limits| {
            let line = limits
                .lines()
                .find(|line| line.starts_with("Max core file size"));
            line.is_some_and(|line| line.split_whitespace().nth(4) != Some("0"))
        })
    };
    files.flatten().any(|file| is_core(&file.file_name()))
        || processes::all(subject.ec2_role.pid).iter().any(may)
}
