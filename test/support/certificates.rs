//! A certificate authority for a test, made with openssl.

use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Directory, skip};

const WITH_NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout";

/// The configuration that `openssl ca` needs.
const CA: &str = "[ca]\ndefault_ca = x\n[x]\ndatabase = index\nrand_serial = yes\nnew_certs_dir = .\ndefault_md = sha256\npolicy = y\n\
                  [y]\ncommonName = supplied\n";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    TwoDays,
    Expired,
}

pub struct Authority(Directory);

/// Returns whether openssl is installed. If openssl is missing, also reports the test as skipped, or fails it in CI.
#[track_caller]
pub fn can() -> bool {
    let can = Command::new("openssl").arg("version").output().is_ok();
    if !can {
        skip("there is no openssl");
    }
    can
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let authority = Authority(Directory::new());
        authority.openssl(&format!(
            "req -x509 {WITH_NEW_KEY} authority-key.pem -subj /CN={name} -days 2 -out authority.pem"
        ));
        authority
    }

    /// The file with the authority's certificate, for AWS_CA_BUNDLE.
    pub fn bundle(&self) -> String {
        self.0.text("authority.pem")
    }

    /// Returns a TLS configuration with a certificate of this authority for `name`, such as `IP:127.0.0.1` (openssl's syntax).
    /// More lines in `name` add more extensions. A basicConstraints line replaces the default, because openssl uses the last one.
    pub fn certify(&self, name: &str, validity: Validity) -> Arc<ServerConfig> {
        let extensions = format!("basicConstraints = CA:FALSE\nsubjectAltName = {name}\n");
        self.0.write("extensions", &extensions);
        self.openssl(&format!(
            "req -new {WITH_NEW_KEY} key.pem -subj /CN=server -out request.pem"
        ));
        // Use `openssl ca`: it can make an expired certificate in every version. `openssl x509` has no options for dates in 3.0,
        // and rejects a negative number of days in 3.5.
        let validity = match validity {
            Validity::TwoDays => "-days 2",
            Validity::Expired => "-startdate 20200101000000Z -enddate 20200102000000Z",
        };
        self.0.write("ca.conf", CA);
        self.0.write("index", "");
        self.openssl(&format!(
            "ca -batch -notext -config ca.conf -in request.pem -cert authority.pem -keyfile authority-key.pem {validity} \
             -extfile extensions -out certificate.pem"
        ));
        let provider = rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(self.0.path("certificate.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(self.0.path("key.pem")).unwrap(),
            );
        Arc::new(config.unwrap())
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.0.path(""))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {stderr}");
    }
}
