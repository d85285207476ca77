//! Checks the faults of files that ec2-role reads, and of programs that it runs as credential_process. These faults are transient
//! even at the first start, because another program may still be writing or mounting the file.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::certificates;
use crate::support::directory::set_mode;
use crate::support::loopback::Loopback;
use crate::support::{Directory, Fault, Reply, SECRET, Start, Sts, When, each};

const ROLE_BEFORE: &str = "arn:aws:iam::123456789012:role/first";

/// The content of the file, or what is in the file's place.
#[derive(Clone, Copy, Debug)]
enum Content {
    Text(&'static str),
    Bytes(&'static [u8]),
    Absent,
    Directory,
    Pipe,
    /// A symbolic link to itself, which fails with ELOOP.
    Loop,
    TooLarge,
    Unreadable,
    /// A program that is open for writing: exec fails with ETXTBSY.
    Busy,
}
use Content::{Absent, Busy, Bytes, Loop, Pipe, Text, TooLarge, Unreadable};

/// How the file is used.
#[derive(Clone, Copy, Debug)]
enum Use {
    Credentials,
    Config,
    Profile,
    Program,
    CaBundle,
    WebIdentity,
    ContainerToken,
    Policy,
}

fn good(of: Use) -> String {
    match of {
        Use::Credentials => {
            format!("[default]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}/key\n")
        }
        Use::Config => "[default]\nregion = eu-west-1\n".to_owned(),
        Use::Profile => {
            format!("[other]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}/key\n")
        }
        Use::Program => format!(
            "#!/bin/sh\necho '{{\"Version\":1,\"AccessKeyId\":\"AKIA\",\"SecretAccessKey\":\"{SECRET}/key\"}}'\n"
        ),
        Use::CaBundle => {
            std::fs::read_to_string(certificates::Authority::new("ours").bundle()).unwrap()
        }
        Use::Policy => "{\"Version\":\"2012-10-17\"}".to_owned(),
        Use::WebIdentity | Use::ContainerToken => format!("{SECRET}.token\n"),
    }
}

fn start(of: Use, sts: &Sts, agent: &Loopback, files: &Directory) -> Start {
    let file = files.text("file");
    let start = Start::without_source(sts);
    match of {
        Use::Credentials => start.variable("AWS_SHARED_CREDENTIALS_FILE", &file),
        Use::Config => start.keys("AKIA").variable("AWS_CONFIG_FILE", &file),
        Use::Profile => start
            .variable("AWS_SHARED_CREDENTIALS_FILE", &file)
            .variable("AWS_PROFILE", "other"),
        Use::Program => {
            let config = format!("[default]\ncredential_process = {file}\n");
            start.file(".aws/config", &config)
        }
        Use::CaBundle => start.keys("AKIA").variable("AWS_CA_BUNDLE", &file),
        Use::WebIdentity => start
            .variable("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
            .variable("AWS_ROLE_ARN", ROLE_BEFORE),
        Use::Policy => {
            let policy = format!("file://{file}");
            start.keys("AKIA").arguments(["--policy", &policy])
        }
        Use::ContainerToken => start
            .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.url())
            .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file),
    }
}

fn check_each(when: When) {
    let rows = [
        (
            Use::Credentials,
            Text("[default]\naws_access_key_id = AKIA\n"),
            "it is set, aws_secret_access_key is not",
        ),
        (
            Use::Credentials,
            Text("[default]\naws_session_token = s3cr3t\n"),
            "it is set, aws_access_key_id and aws_secret_access_key are not",
        ),
        (Use::Credentials, Text(""), "profile \"default\" has none"),
        // Keys before the first section belong to no profile.
        (
            Use::Credentials,
            Text("aws_access_key_id = AKIA\naws_secret_access_key = s3cr3t\n"),
            "profile \"default\" has none",
        ),
        (Use::Credentials, Absent, "no source has a credential"),
        (Use::Credentials, Content::Directory, "not a regular file"),
        (
            Use::Credentials,
            Bytes(b"[default]\naws_access_key_id = AKIA\xe9\n"),
            "its encoding is not UTF-8",
        ),
        (
            Use::Credentials,
            Bytes(b"\xff\xfe[\0d\0e\0f\0a\0u\0l\0t\0]\0\n\0"),
            "its encoding is not UTF-8",
        ),
        (
            Use::Config,
            Bytes(b"[\0d\0e\0f\0a\0u\0l\0t\0]\0\n\0"),
            "its encoding is not UTF-8 (UTF-16 or Latin-1?); save it as UTF-8",
        ),
        (
            Use::Credentials,
            Text("[default]\nsso_session = x\n"),
            "sso_session: ec2-role does not support it",
        ),
        (
            Use::Credentials,
            Text("[default]\ncredential_process = sh -c 'x\n"),
            "a quote is not closed",
        ),
        (
            Use::Credentials,
            Text("[default]\nweb_identity_token_file = /nowhere\n"),
            "role_arn is not",
        ),
        (
            Use::Config,
            Text("[default]\nuse_fips_endpoint = tr"),
            "use_fips_endpoint: it is \"tr\"",
        ),
        (Use::Profile, Absent, "profile \"other\": it is neither in "),
        (
            Use::Profile,
            Text("[oth"),
            "profile \"other\": it is neither in ",
        ),
        (Use::Program, Absent, "cannot be run: No such file"),
        (
            Use::Program,
            Text("not a program"),
            "cannot be run: Exec format error",
        ),
        (Use::Program, Unreadable, "cannot be run: Permission denied"),
        (Use::Program, Busy, "cannot be run: Text file busy"),
        (Use::CaBundle, Absent, "AWS_CA_BUNDLE"),
        (Use::CaBundle, Text(""), "no certificate"),
        (Use::WebIdentity, Absent, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (Use::WebIdentity, Text("\n"), "it is empty"),
        (
            Use::ContainerToken,
            Absent,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
        (Use::ContainerToken, Text(""), "it is empty"),
        (Use::ContainerToken, Text("a\nb"), "U+000A"),
        (Use::ContainerToken, Pipe, "not a regular file"),
        (
            Use::Policy,
            Absent,
            "--policy …cannot be read: No such file",
        ),
        (
            Use::Policy,
            Text("{\"Version\":"),
            "--policy …it is not JSON: EOF…; correct the file",
        ),
        (
            Use::Policy,
            Text("[]"),
            "a policy is a JSON object; correct the file",
        ),
        (Use::Policy, Pipe, "--policy …not a regular file"),
        (Use::WebIdentity, Text("a\nb"), "U+000A"),
        (Use::WebIdentity, Bytes(b"\xff"), "not UTF-8"),
        (Use::WebIdentity, Content::Directory, "not a regular file"),
        (Use::WebIdentity, Loop, "Too many levels of symbolic links"),
        (
            Use::CaBundle,
            Text("-----BEGIN CERTIFICATE-----\nMIIB"),
            "no certificate",
        ),
        (Use::CaBundle, Pipe, "not a regular file"),
        (Use::Credentials, Pipe, "not a regular file"),
        (Use::Credentials, Loop, "Too many levels of symbolic links"),
        // A crash of the machine can leave a file of zeros.
        (
            Use::Credentials,
            Bytes(&[0; 90]),
            "its encoding is not UTF-8",
        ),
        (
            Use::Credentials,
            Text("[default]\naws_access_key_id = AK\u{7}\naws_secret_access_key = s3cr3t\n"),
            "aws_access_key_id in the credentials file: character 3 is U+0007",
        ),
        (
            Use::Credentials,
            Text("[default]\nrole_arn = arn:aws:iam::123456789012:role/a\nsource_profile = b\n"),
            "role_arn: ec2-role does not support it",
        ),
        (Use::Config, TooLarge, "a regular file of at most 4 MiB"),
        (
            Use::Program,
            Content::Directory,
            "cannot be run: Permission denied",
        ),
        (
            Use::Program,
            Text("#!/nowhere\n"),
            "cannot be run: No such file",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\nexit 1"),
            "it failed (exit status: 1)",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\nkill -9 $$"),
            "it failed (signal: 9 (SIGKILL))",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\nkill -9 $PPID"),
            "fetcher killed by signal 9 while running the credential_process of profile \"default\"; look",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\n"),
            "it printed no JSON; run it by hand",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\necho '{\"Version\":1,'"),
            "it printed no JSON",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\necho '{\"Version\":2}'"),
            "no Version 1 credential",
        ),
        (
            Use::Program,
            Text(
                "#!/bin/sh\nprintf %s '{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3cr3t\",\"SessionToken\":\"s3\\ncr3t\"}'",
            ),
            "or SessionToken is malformed",
        ),
        (
            Use::Program,
            Text(
                "#!/bin/sh\nprintf %s '{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3cr3t\",\"SessionToken\":7}'",
            ),
            "or SessionToken is malformed",
        ),
        (
            Use::Program,
            Text(
                "#!/bin/sh\nprintf %s '{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s3\\ncr3t\"}'",
            ),
            "AccessKeyId or SecretAccessKey is missing or malformed",
        ),
        (
            Use::Program,
            Text("#!/bin/sh\nexec yes"),
            "it printed more than 65536 bytes",
        ),
    ];
    let rows = rows
        .into_iter()
        .filter(|(of, ..)| !matches!(of, Use::CaBundle) || certificates::can());
    each(rows, |(of, content, expected)| {
        let files = Directory::new();
        let body = format!(
            "{{\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"{SECRET}/key\",\"Token\":\"{SECRET}/token\"}}"
        );
        let agent = Loopback::start(move |_, connection| {
            connection.answer(200, "", body.as_bytes());
        });
        let sts = Sts::start([Reply::good()]);
        let writer = Mutex::new(None);
        let (file, new) = (files.path("file"), files.path("new"));
        let remove = |path: &Path| {
            _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
        };
        // Replaces the file with what is at `new`. The replacement is atomic, so a fetch that reads the file meanwhile finds
        // either the old content or the new.
        let put = || {
            if renameat_with(CWD, &new, CWD, &file, RenameFlags::EXCHANGE).is_err() {
                std::fs::rename(&new, &file).unwrap();
            }
            remove(&new);
        };
        let write = |bytes: &[u8]| {
            std::fs::write(&new, bytes).unwrap();
            set_mode(&new, 0o755);
            put();
        };
        write(good(of).as_bytes());
        Fault {
            what: format!("{of:?}, {content:?}"),
            sts: &sts,
            start: &|| start(of, &sts, &agent, &files),
            inject: &|_| match content {
                Text(text) => write(text.as_bytes()),
                Bytes(bytes) => write(bytes),
                Absent => remove(&file),
                Content::Directory => {
                    std::fs::create_dir(&new).unwrap();
                    put();
                }
                Pipe => {
                    let made = Command::new("mkfifo").arg(&new).status();
                    assert!(made.unwrap().success());
                    put();
                }
                Loop => {
                    std::os::unix::fs::symlink("file", &new).unwrap();
                    put();
                }
                TooLarge => write(&[b'#'; 5 << 20]),
                Unreadable => set_mode(&file, 0),
                Busy => {
                    let file = OpenOptions::new().append(true).open(&file);
                    *writer.lock().unwrap() = Some(file.unwrap());
                }
            },
            repair: &|_| {
                *writer.lock().unwrap() = None;
                write(good(of).as_bytes());
            },
            expected: &[expected],
            calls: 0,
        }
        .check(when);
    });
}

#[test]
fn ec2_role_recovers_from_an_invalid_file_at_the_first_start() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn ec2_role_recovers_from_an_invalid_file_during_a_refresh() {
    check_each(When::DuringARefresh);
}
