//! Proxies that find their upstreams by DNS.

use std::io::Read as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::backend::Backend;
use crate::machine::{Program, free_port, program, until};
use crate::rig::{ILL, Rig};

/// One request over a connection of its own; what is answered.
pub(crate) fn get(addr: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web.shop.internal\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// How many of a hundred requests each answered.
pub(crate) fn share(addr: SocketAddr, backends: [&Backend; 2]) -> Option<[usize; 2]> {
    let _before = backends.map(Backend::requests);
    for _ in 0..100 {
        get(addr)?;
    }
    Some(backends.map(Backend::requests))
}

#[test]
fn haproxy_follows_the_split_by_the_weights_of_srv_records() {
    let Some(haproxy) = program("haproxy") else { return };
    let (old, new) = (Backend::says("old"), Backend::says("new"));
    let rig = Rig::new();
    let split = |a, b| rig.serve_web(&[(a, vec![old.addr]), (b, vec![new.addr])]);
    split(9_000, 1_000);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n\
         resolvers house\n nameserver one {dns}\n accepted_payload_size 1232\n hold valid 1s\n \
         hold nx 1s\n hold obsolete 0s\n timeout resolve 1s\n timeout retry 1s\n\
         listen front\n bind {listen}\n balance roundrobin\n \
         server-template s 4 _web._tcp.shop.internal resolvers house init-addr none\n",
        dns = rig.dns
    );
    let path = rig.home.path().join("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    let _haproxy = Program::start(Command::new(haproxy).arg("-db").arg("-q").arg("-f").arg(&path));
    let both = [&old, &new];
    until("90 : 10", || {
        let [a, b] = share(listen, both)?;
        (a + b == 100 && (8..=12).contains(&b)).then_some(())
    });
    split(5_000, 5_000);
    until("50 : 50", || {
        let [a, b] = share(listen, both)?;
        (a + b == 100 && (46..=54).contains(&b)).then_some(())
    });
    split(0, 10_000);
    until("all to the new one", || (share(listen, both)? == [0, 100]).then_some(()));
}

#[test]
fn nginx_follows_health_by_a_resolver() {
    let Some(nginx) = program("nginx") else { return };
    // It asks for addresses only, so both listen on one port.
    let (one, other) = (Backend::says("one"), Backend::says("other"));
    let rig = Rig::new();
    rig.serve(
        [("a", one.addr), ("b", other.addr)]
            .map(|(name, addr)| {
                (name.parse().unwrap(), crate::rig::service(&[(10_000, vec![addr])]))
            })
            .into(),
    );
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let at = rig.home.path().display();
    let config = format!(
        "daemon off;\nmaster_process off;\nerror_log {at}/error.log;\npid {at}/pid;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {at}/1;\nproxy_temp_path {at}/2;\n\
         fastcgi_temp_path {at}/3;\nuwsgi_temp_path {at}/4;\nscgi_temp_path {at}/5;\n\
         resolver {dns} valid=1s ipv6=off;\n\
         server {{ listen {listen}; location / {{ set $up a.shop.internal; \
         proxy_pass http://$up:{port}; }} }}\n}}\n",
        dns = rig.dns,
        port = one.addr.port(),
    );
    let path = rig.home.path().join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let _nginx = Program::start(
        Command::new(nginx)
            .arg("-e")
            .arg("stderr")
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(rig.home.path()),
    );
    until("it resolves", || (get(listen)? == "one").then_some(()));
    // Nobody left, and not even one who was well: nginx cannot resolve it, and says so.
    rig.see("a.r1.1", crate::rig::NOTHING);
    until("it is seen", || get(listen).is_none().then_some(()));
    rig.see("a.r1.1", ILL);
    until("rather one who was well than nobody", || (get(listen)? == "one").then_some(()));
}
