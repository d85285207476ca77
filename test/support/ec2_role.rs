//! The real binary as a process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::http::{self, Answer, DOCUMENT_PATH, TOKEN_PATH, TTL};
use super::json_log;
use super::sts::SECRET_OF_ROLE;
use super::{Directory, SECRET, Sts, Watched, until};

/// The role that is served, unless a test chooses another.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/exc_web";
/// Access key id of the source credential, unless a test gives another.
pub const SOURCE_KEY: &str = "AKIATESTSOURCE000001";
/// A command of a `credential_process` that prints a credential.
pub const PRINT_CREDENTIAL: &str =
    "echo '{\"Version\":1,\"AccessKeyId\":\"AKIA\",\"SecretAccessKey\":\"s3cr3t\"}'";
/// The first characters of every session token, EC2's and ec2-role's. Dropping an [`Ec2Role`] searches the log, stdout and HOME
/// for them.
const SESSION_TOKEN: &str = "AQAE";
/// Time between SIGTERM and SIGKILL when a test drops its process.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// How to start the binary.
pub struct Start {
    pub home: Directory,
    program: String,
    before: Vec<String>,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    stderr: Option<Stdio>,
    stdin: Stdio,
}

impl Start {
    /// A start without arguments, whose environment is HOME and AWS_EC2_METADATA_DISABLED.
    pub fn bare() -> Self {
        let home = Directory::new();
        let variables = [
            ("HOME".to_owned(), home.text("")),
            ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
        ];
        Start {
            home,
            program: env!("CARGO_BIN_EXE_ec2-role").to_owned(),
            before: Vec::new(),
            arguments: Vec::new(),
            variables: variables.into(),
            stderr: None,
            stdin: Stdio::null(),
        }
    }

    /// A start with the role, a free port and this STS, but without a credential source.
    pub fn without_source(sts: &Sts) -> Self {
        Self::bare().listen("127.0.0.1:0").arguments([
            ROLE,
            "--region",
            "eu-west-1",
            "--endpoint-url",
            &sts.url(),
        ])
    }

    pub fn with(sts: &Sts) -> Self {
        Self::without_source(sts).keys(SOURCE_KEY)
    }

    pub fn keys(self, access_key_id: &str) -> Self {
        self.variable("AWS_ACCESS_KEY_ID", access_key_id).variable(
            "AWS_SECRET_ACCESS_KEY",
            &format!("{SECRET}/key+of/the/source"),
        )
    }

    pub fn listen(self, where_to: &str) -> Self {
        self.variable("EC2_ROLE_LISTEN", where_to)
    }

    pub fn arguments<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(str::to_owned));
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn without_variable(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Writes a file in HOME.
    pub fn file(self, name: &str, content: &str) -> Self {
        self.home.write(name, content);
        self
    }

    /// Makes this shell script the `credential_process` of the default profile.
    pub fn credential_process(self, script: &str) -> Self {
        let program = self.home.program("print-credential", script);
        let config = format!("[default]\ncredential_process = {program}\n");
        self.file(".aws/config", &config)
    }

    /// Runs this binary instead of the one that cargo built for the tests.
    pub fn program(mut self, program: String) -> Self {
        self.program = program;
        self
    }

    /// Starts the binary through this command, which gets the binary and its arguments as last arguments.
    pub fn before<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.before = words.into_iter().map(str::to_owned).collect();
        self
    }

    /// Connects stderr to this instead of the pipe that the test reads; [`Ec2Role::lines`] then stays empty.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    pub fn spawn(self) -> Ec2Role {
        let serves = !["--check", "--credential-process"]
            .iter()
            .any(|once| self.arguments.iter().any(|it| it == once));
        let json = self.stderr.is_none() && serves && json_log::is_asked();
        let mut words = self.before.clone();
        words.push(self.program.clone());
        let gathers = self.stderr.is_none();
        let started = Instant::now();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(&self.arguments)
            .current_dir(self.home.path(""))
            .env_clear()
            .envs(json.then_some(("EC2_ROLE_LOG_FORMAT", "json")))
            .envs(&self.variables)
            .stdin(self.stdin)
            .stdout(Stdio::piped())
            .stderr(self.stderr.unwrap_or_else(Stdio::piped))
            .spawn()
            .unwrap();
        let lines = Arc::<Watched<Vec<String>>>::default();
        if gathers {
            let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&lines));
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let line = if json { json_log::text(&line) } else { line };
                    lines.change(|lines| lines.push(line));
                }
            });
        }
        let pid = Pid::from_child(&child);
        Ec2Role {
            home: self.home,
            child,
            pid,
            lines,
            address: ([0, 0, 0, 0], 0).into(),
            started,
        }
    }

    /// Starts the process and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Ec2Role {
        let mut ec2_role = self.spawn();
        let line = ec2_role.wait_for_line("listening on ");
        let (_, listening) = line.split_once("listening on ").unwrap();
        ec2_role.address = listening.split(' ').next().unwrap().parse().unwrap();
        ec2_role
    }

    /// Starts the process and waits until it serves a credential.
    #[track_caller]
    pub fn serving(self) -> Ec2Role {
        let ec2_role = self.start();
        ec2_role.wait_for_line("ec2-role: credential of ");
        ec2_role
    }

    /// Runs the process until it ends.
    #[track_caller]
    pub fn run(self) -> Ended {
        let mut ec2_role = self.spawn();
        let status = ec2_role.wait_for_end();
        let mut stdout = String::new();
        ec2_role
            .child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        // `wait_for_end` has waited until the last process closed stderr, so no line is missing.
        Ended {
            status: status.code(),
            stdout,
            lines: ec2_role.lines(),
        }
    }
}

#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub lines: Vec<String>,
}

/// A running ec2-role. Dropping it ends the process. If the test has not failed yet, dropping it then checks that no server hung
/// and that ec2-role wrote no secret to its log, its stdout or a file in HOME.
pub struct Ec2Role {
    pub home: Directory,
    pub address: SocketAddr,
    pub pid: Pid,
    pub started: Instant,
    pub child: Child,
    lines: Arc<Watched<Vec<String>>>,
}

impl Ec2Role {
    pub fn lines(&self) -> Vec<String> {
        self.lines.look(Clone::clone)
    }

    pub fn count_lines(&self, text: &str) -> usize {
        self.lines
            .look(|lines| lines.iter().filter(|line| line.contains(text)).count())
    }

    /// Waits until the log has a line with this text. Returns at once if it already has one.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        self.wait_for_line_after(0, text)
    }

    /// Like `wait_for_line`, but ignores the first `count` lines.
    #[track_caller]
    pub fn wait_for_line_after(&self, count: usize, text: &str) -> String {
        self.lines.wait(text, |lines| {
            lines
                .iter()
                .skip(count)
                .find(|line| line.contains(text))
                .cloned()
        })
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        http::get(self.address, path).unwrap()
    }

    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::request(self.address, method, path, headers).unwrap()
    }

    #[track_caller]
    pub fn document(&self) -> Answer {
        self.get(DOCUMENT_PATH)
    }

    /// Requests a session token that is valid for this many seconds.
    #[track_caller]
    pub fn token(&self, seconds: &str) -> String {
        let answer = self.request("PUT", TOKEN_PATH, &[(TTL, seconds)]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Waits until the document has the credential of this STS call, or of a later one if the test was slow.
    #[track_caller]
    pub fn wait_for_document_of_call(&self, number: usize) -> Answer {
        let key = super::sts::access_key_id(number);
        until(&format!("the document with {key}"), || {
            let answer = self.document();
            // The access key id of a later call is greater.
            (answer.status == 200 && answer.field("AccessKeyId") >= key).then_some(answer)
        })
    }

    /// The server process; waits until there is one.
    #[track_caller]
    pub fn server(&self) -> Pid {
        until("a server", || self.child_named("ec2-role-server"))
    }

    pub fn fetcher(&self) -> Option<Pid> {
        self.child_named("ec2-role-fetch")
    }

    /// The log writer process, which exists if stderr is a file.
    pub fn log_writer(&self) -> Option<Pid> {
        self.child_named("ec2-role-log")
    }

    /// The newest child with this name: an older one may have ended and not be reaped yet.
    fn child_named(&self, name: &str) -> Option<Pid> {
        children(self.pid).into_iter().rfind(|pid| {
            std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
                .is_ok_and(|comm| comm.trim() == name)
        })
    }

    /// Returns the stdout so far, or `None` if the test has taken the pipe. The read is non-blocking: a child of ec2-role may
    /// still have the pipe open, and a blocking read would wait for that child.
    fn printed(&mut self) -> Option<String> {
        let mut stdout = self.child.stdout.take()?;
        rustix::io::ioctl_fionbio(&stdout, true).unwrap();
        let mut printed = Vec::new();
        _ = stdout.read_to_end(&mut printed);
        Some(String::from_utf8_lossy(&printed).into_owned())
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).unwrap();
    }

    /// Waits until the process has ended and all its log lines are read.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let status = until("its end", || self.child.try_wait().unwrap());
        // Once no process has the pipe of stderr open, the log's reader thread ends and drops its `lines`.
        until("the end of its lines", || {
            (Arc::strong_count(&self.lines) == 1).then_some(())
        });
        status
    }
}

pub fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| Pid::from_raw(word.parse().ok()?))
        .collect()
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: Pid) -> bool {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|after| !after.is_empty() && !after.starts_with('Z'))
}

/// Returns the processor time of a process in hundredths of a second.
pub fn processor_time(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields = after_name.split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

impl Drop for Ec2Role {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
            let begun = Instant::now();
            while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
                if begun.elapsed() > LAST_MOMENTS {
                    _ = self.child.kill();
                    _ = self.child.wait();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let lines = self.lines();
        if std::thread::panicking() {
            return eprintln!("it said:\n{}", lines.join("\n"));
        }
        // Fail the test if a server hung. The supervisor soon replaces a server that hangs, so the test itself may not have
        // noticed the hang.
        let hang = lines
            .iter()
            .find(|line| line.contains("it does not answer"));
        assert_eq!(hang, None);
        let told = |line: &String| line.contains(SECRET) || line.contains(SESSION_TOKEN);
        assert_eq!(lines.into_iter().chain(self.printed()).find(told), None);
        // Search the files for the role's secrets and for session tokens, but not for `SECRET`: tests write the secrets of
        // credential sources into files.
        let files = self.home.files_with(&[SECRET_OF_ROLE, SESSION_TOKEN]);
        assert!(files.is_empty(), "a secret is in {files:?}");
    }
}
