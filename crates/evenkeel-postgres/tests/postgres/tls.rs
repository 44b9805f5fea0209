//! A server that is spoken to by TLS, and has to be the right one.

use evenkeel_postgres::connect::connect;
use postgres::{Config, NoTls};

use crate::rig::{programs, skipped, start_with, told};

/// A certificate of its own for this name, and its key.
fn certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn tls_is_spoken_to_the_server_that_has_the_name_and_to_no_other() {
    let Some(programs) = programs().into_iter().next() else {
        return skipped("PostgreSQL is not installed");
    };
    let (certificate, key) = certificate("localhost");
    // The server takes a port that is free at this moment: it cannot be told to choose one.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let settings = [
        "ssl=on",
        "ssl_cert_file=../cert.pem",
        "ssl_key_file=../key.pem",
        "listen_addresses=127.0.0.1",
    ];
    let files = [("cert.pem", certificate.as_str()), ("key.pem", key.as_str())];
    let server = start_with(&programs, &files, &settings, port).unwrap();
    let roots = server.folder.join("cert.pem");
    let roots = roots.display();

    let address =
        format!("postgres://owner@localhost:{port}/postgres?sslmode=require&sslrootcert={roots}");
    let mut client =
        connect(&address, "evenkeel").unwrap_or_else(|error| panic!("{}", told(&error)));
    let spoken = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]);
    assert!(spoken.unwrap().get::<_, bool>(0));

    // Another name than its certificate has, and roots that it does not hang on.
    for address in [
        format!("postgres://owner@127.0.0.1:{port}/postgres?sslmode=require&sslrootcert={roots}"),
        format!("postgres://owner@localhost:{port}/postgres?sslmode=require"),
    ] {
        let error = connect(&address, "evenkeel").map(drop).unwrap_err();
        assert!(told(&error).contains("certificate"), "{}", told(&error));
    }
    let plain = format!("postgres://owner@localhost:{port}/postgres?sslmode=disable");
    assert!(plain.parse::<Config>().unwrap().connect(NoTls).is_ok());
}
