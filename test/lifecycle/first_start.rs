//! Transient faults at the first start are retried, with a log line that names them. Only an invalid option or variable ends
//! ec2-role.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::support::directory::set_mode;
use crate::support::{Directory, Ec2Role, Reply, Start, Sts, each};

type Repair<'a> = Box<dyn Fn(&Ec2Role) + Send + Sync + 'a>;

const TOKEN_KEY: &str = "--token-key-file";
const TOKEN: &str = "--container-token-file";

fn raise(limit: Resource, ec2_role: &Ec2Role) {
    let enough = Some(4096);
    let enough = Rlimit {
        current: enough,
        maximum: enough,
    };
    prlimit(Some(ec2_role.pid), limit, enough).unwrap();
}

fn limited(option: &str, most: u32) -> [String; 4] {
    let script = format!("ulimit -S {option} {most}; exec \"$@\"");
    ["sh".into(), "-c".into(), script, "sh".into()]
}

#[test]
fn file_and_address_faults_at_start_are_retried() {
    let sts = Sts::start([Reply::good()]);
    let files = &Directory::new();
    let write = |name: &str, content: &str| {
        files.write(name, content);
        set_mode(&files.path(name), 0o600);
    };
    write("empty", "");
    write("short", "abc");
    write("readable", &"a1".repeat(32));
    set_mode(&files.path("readable"), 0o604);
    write("lines", "two\nlines");
    write("large", &"x".repeat(300_000));
    for (link, target) in [("loop", "loop"), ("dangling", "nowhere")] {
        std::os::unix::fs::symlink(target, files.path(link)).unwrap();
    }
    for pipe in ["pipe", "token-pipe"] {
        let made = Command::new("mkfifo").arg(files.text(pipe)).status();
        assert!(made.unwrap().success());
    }
    for directory in ["directory", "token-directory"] {
        fs::create_dir(files.path(directory)).unwrap();
    }
    let remove = |name| {
        fs::remove_file(files.path(name))
            .or_else(|_| fs::remove_dir(files.path(name)))
            .unwrap();
    };
    let with = |option: &str, name: &str| {
        let file = files.text(name);
        Start::with(&sts).arguments([option, &file])
    };
    let mut rows: Vec<(Start, &str, Repair)> = Vec::new();
    for (option, name, expected) in [
        (TOKEN_KEY, "empty", "64 hexadecimal digits"),
        (TOKEN_KEY, "short", "64 hexadecimal digits"),
        (TOKEN_KEY, "readable", "chmod 600"),
        (TOKEN_KEY, "loop", "Too many levels of symbolic links"),
        (TOKEN_KEY, "dangling", "No such file or directory"),
        (TOKEN_KEY, "pipe", "not a regular file"),
        (TOKEN_KEY, "directory", "not a regular file"),
    ] {
        rows.push((
            with(option, name),
            expected,
            Box::new(move |_| remove(name)),
        ));
    }
    for (name, expected) in [
        ("token-pipe", "not a regular file"),
        ("token-directory", "not a regular file"),
        ("lines", "character 4 is U+000A, which it cannot hold"),
        ("large", "at most 4096"),
    ] {
        let repair = move |_: &Ec2Role| {
            remove(name);
            write(name, "token");
        };
        rows.push((with(TOKEN, name), expected, Box::new(repair)));
    }
    rows.push((
        Start::with(&sts).variable(
            "EC2_ROLE_TOKEN_KEY_FILE",
            &files.text("not/mounted/yet/key"),
        ),
        "No such file or directory",
        Box::new(|_| fs::create_dir_all(files.path("not/mounted/yet")).unwrap()),
    ));
    let no_file = limited("-f", 0);
    rows.push((
        with(TOKEN_KEY, "key").before(no_file.iter().map(String::as_str)),
        "File too large",
        Box::new(|ec2_role| raise(Resource::Fsize, ec2_role)),
    ));
    // Use 127.0.0.2, because connections of other tests use ports of 127.0.0.1. Such a connection could take the port after this
    // test has freed it.
    let taken = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let taken = Mutex::new(Some(taken));
    rows.push((
        Start::with(&sts).listen(&address),
        "the address is in use; stop what listens there, or choose another port",
        Box::new(move |_| drop(taken.lock().unwrap().take())),
    ));
    each(rows, |(start, expected, repair)| {
        let ec2_role = start.spawn();
        let line = ec2_role.wait_for_line(expected);
        let names = [TOKEN_KEY, TOKEN, "EC2_ROLE_TOKEN_KEY_FILE ", "--listen "];
        assert!(names.iter().any(|name| line.contains(name)), "{line}");
        repair(&ec2_role);
        ec2_role.wait_for_line("credential of ");
        ec2_role.wait_for_line("listening on ");
    });
}

/// Starts ec2-role under many limits on open files, so that the start fails at different steps. The test then raises the limit of
/// the running process, and ec2-role must complete its start.
#[test]
fn start_survives_any_limit_on_open_files() {
    let sts = Sts::start([Reply::good()]);
    let files = Directory::new();
    each((4..48).step_by(2), |most| {
        let limited = limited("-n", most);
        let key = files.text(&format!("key-{most}"));
        let ec2_role = Start::with(&sts)
            .before(limited.iter().map(String::as_str))
            .arguments([TOKEN_KEY, &key])
            .spawn();
        ec2_role.wait_for_line("ec2-role: ");
        raise(Resource::Nofile, &ec2_role);
        ec2_role.wait_for_line("credential of ");
    });
}
