//! One edge process after the other, while requests are under way (S35).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use evenkeel_edge::{Limits, leaving};
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::world::Health;
use h2::Reason;
use h2::client::SendRequest;
use rustix::process::Signal;

use crate::client::Client;
use crate::h2_peer::{H2Client, H2Instance, echo, request};
use crate::instance::{Instance, answer, read_chunk};
use crate::processes::{reigns, signal, spawn, start};
use crate::rig::{Rig, fence, pool_of, table, table_at, until};

/// Starts a successor, and waits until it is the edge.
pub(crate) fn succeed(home: &Path) -> Child {
    let child = spawn(home, true);
    until("it is the edge", || reigns(home, &child) && leaving_but(home, &child).is_some());
    child
}

/// Those who leave, once the edge itself is not among them.
fn leaving_but(home: &Path, edge: &Child) -> Option<Vec<u32>> {
    let all = leaving(home);
    (!all.contains(&edge.id())).then_some(all)
}

#[track_caller]
pub(crate) fn ends(what: &str, child: &mut Child) {
    let mut status = None;
    until(what, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{what}");
}

/// An instance that answers `/`, streams `/stream` as it is told to, and gives bytes back after an
/// upgrade.
fn instance(name: &'static str) -> (Instance, Sender<&'static str>) {
    let (say, said) = mpsc::channel::<&'static str>();
    let said = Mutex::new(said);
    let it = Instance::new(move |request, stream| match request.path() {
        "/stream" => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).unwrap();
            for word in said.lock().unwrap().iter() {
                let chunk = format!("{:x}\r\n{word}\r\n", word.len());
                stream.write_all(chunk.as_bytes()).unwrap();
                if word.is_empty() {
                    return true;
                }
            }
            false
        }
        "/upgrade" => {
            let head = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            stream.write_all(head).unwrap();
            let mut buffer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..length]).unwrap();
            }
            false
        }
        _ => answer(stream, "200 OK", name),
    });
    (it, say)
}

fn upgraded(rig: &Rig) -> Client {
    let mut client = rig.client();
    let ask = "GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    assert_eq!(client.raw(ask).status, 101);
    client
}

#[track_caller]
fn echoes(client: &mut Client) {
    client.write("hello");
    let mut back = [0; 5];
    client.read.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

fn web() -> InstanceId {
    "web.r1.1".parse().unwrap()
}

#[test]
fn s35_d11_what_is_under_way_goes_on_over_three_successors_and_counts_as_one() {
    let (instance, say) = instance("served");
    let rig = Rig::without_edge();
    let mut edge = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let incarnation = rig.observe().incarnation;
    let mut kept = rig.client();
    assert_eq!(kept.get("/").body, "served");
    let mut idle = rig.client();
    assert_eq!(idle.get("/").body, "served");
    let mut streamed = rig.client();
    streamed.write("GET /stream HTTP/1.1\r\nHost: t\r\n\r\n");
    streamed.head().unwrap();
    let mut upgraded = upgraded(&rig);
    // Control keeps one connection to the door all the time.
    let mut door = rig.door();
    let mut counted = 0;
    let mut former: Vec<Child> = Vec::new();
    let began = Instant::now();
    for round in 0..3 {
        let next = succeed(&rig.home);
        former.push(std::mem::replace(&mut edge, next));
        // A connection that was kept is answered once more, and asked to close.
        let answer = kept.get("/");
        assert_eq!((answer.body.as_str(), answer.header("connection")), ("served", Some("close")));
        kept = rig.client();
        assert_eq!(kept.get("/").header("connection"), None);
        say.send("word").unwrap();
        assert_eq!(read_chunk(&mut streamed.read).unwrap(), b"word");
        echoes(&mut upgraded);
        let seen = door.observe(evenkeel_kernel::time::Timestamp(1_000_000)).unwrap();
        assert_eq!(seen.incarnation, incarnation);
        let web = seen.instances[&web()];
        assert_eq!((web.health, web.in_flight, web.long_lived), (Health::Healthy, 1, 1));
        let requests = seen.pools[&crate::rig::pool_id(1)].requests;
        assert!(requests >= counted + 2, "{requests} after {counted} in round {round}");
        counted = requests;
    }
    // The one that was idle all the time, at the first of them, and for longer than an edge lets it
    // that ends.
    while began.elapsed() < Duration::from_millis(3_000) {
        echoes(&mut upgraded);
    }
    assert_eq!(idle.get("/").header("connection"), Some("close"));
    say.send("").unwrap();
    assert_eq!(read_chunk(&mut streamed.read).unwrap(), b"");
    drop((upgraded, streamed));
    for mut it in former {
        ends("it holds nothing any more", &mut it);
    }
    assert!(leaving(&rig.home).is_empty());
    until("all is counted", || {
        let counts = rig.counts(1);
        // Two at first, two in each round, the idle one, the stream and the upgrade.
        (counts.requests, counts.in_flight) == (11, 0)
    });
    let web = rig.observe().instances[&web()];
    assert_eq!((web.in_flight, web.long_lived), (0, 0));
    signal(&edge, Signal::TERM);
    ends("it is told to", &mut edge);
}

#[test]
fn s35_a_request_that_waits_at_the_former_edge_is_answered_by_the_table_of_the_next() {
    let (gone, new) = (Instance::says("gone"), Instance::says("new"));
    let rig = Rig::without_edge();
    let mut first = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&gone])]));
    gone.kill();
    let mut waiting = rig.client();
    waiting.write("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    until("it is known to be away", || rig.health("web.r1.1") != Health::Healthy);
    let mut second = succeed(&rig.home);
    let served = rig.door().apply(&table(2, &[(0, &[&gone]), (10_000, &[&new])])).unwrap();
    assert_eq!(served, fence(2), "both serve it");
    assert_eq!(waiting.answer(false).unwrap().body, "new");
    drop(waiting);
    ends("the first", &mut first);
    signal(&second, Signal::TERM);
    ends("the second", &mut second);
}

/// Stops a process, and waits until every thread of it stands still.
fn stop(process: &Child) {
    signal(process, Signal::STOP);
    let stands = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = format!("/proc/{}/task", process.id());
    until("it stands still", || {
        std::fs::read_dir(&tasks).unwrap().filter_map(Result::ok).all(stands)
    });
}

#[test]
fn s35_nothing_is_concluded_while_the_former_edge_does_not_answer() {
    let (instance, say) = instance("served");
    let rig = Rig::without_edge();
    let mut first = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut streamed = rig.client();
    streamed.write("GET /stream HTTP/1.1\r\nHost: t\r\n\r\n");
    streamed.head().unwrap();
    let mut second = succeed(&rig.home);
    stop(&first);
    let mut next = table(2, &[(10_000, &[&instance])]);
    for it in pool_of(&mut next, 1).instances.values_mut() {
        it.draining = true;
    }
    next.services.values_mut().for_each(|it| it.split.clear());
    // A busy machine may take longer for both waits than a client of the door does.
    until("one does not serve it", || rig.door().apply(&next).is_ok_and(|it| it == fence(1)));
    assert!(rig.door().routes_to(&web()).is_err(), "nobody knows");
    let seen = rig.observe();
    assert_eq!((seen.serving, seen.instances[&web()].in_flight), (fence(1), 1));
    signal(&first, Signal::CONT);
    until("it catches up by itself", || rig.observe().serving == fence(2));
    assert!(!rig.door().routes_to(&web()).unwrap());
    assert_eq!(rig.observe().instances[&web()].in_flight, 1);
    say.send("").unwrap();
    until("it is answered", || rig.observe().instances[&web()].in_flight == 0);
    drop(streamed);
    ends("the first", &mut first);
    signal(&second, Signal::TERM);
    ends("the second", &mut second);
}

#[test]
fn s35_a_former_edge_that_is_killed_takes_back_nothing_that_was_counted() {
    let (instance, _say) = instance("served");
    let rig = Rig::without_edge();
    let mut first = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    for _ in 0..5 {
        rig.client().get("/");
    }
    let mut upgraded = upgraded(&rig);
    let mut second = succeed(&rig.home);
    echoes(&mut upgraded);
    let before = rig.observe();
    assert_eq!(before.instances[&web()].long_lived, 1);
    signal(&first, Signal::KILL);
    first.wait().unwrap();
    let after = rig.observe();
    assert_eq!(after.incarnation, before.incarnation);
    assert_eq!(after.instances[&web()].long_lived, 0);
    assert_eq!(rig.counts(1).requests, 6);
    assert_eq!(rig.client().get("/").body, "served");
    assert!(leaving(&rig.home).is_empty(), "its door is cleared away");
    signal(&second, Signal::TERM);
    ends("the second", &mut second);
}

#[test]
fn s35_an_edge_that_starts_after_a_crash_finds_who_still_leaves() {
    let (instance, _say) = instance("served");
    let rig = Rig::without_edge();
    let mut first = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut upgraded = upgraded(&rig);
    let mut second = succeed(&rig.home);
    let former = rig.observe();
    signal(&second, Signal::KILL);
    second.wait().unwrap();
    let mut third = start(&rig.home);
    echoes(&mut upgraded);
    let seen = rig.observe();
    assert_ne!(seen.incarnation, former.incarnation, "the second's counts are lost");
    assert_eq!(seen.instances[&web()].long_lived, 1);
    assert_eq!(seen.pools[&crate::rig::pool_id(1)].requests, 0, "the first's were told before");
    // Told to end, it has the others end as well.
    signal(&third, Signal::TERM);
    ends("the third", &mut third);
    let mut rest = Vec::new();
    upgraded.read.read_to_end(&mut rest).ok();
    ends("the first", &mut first);
    assert!(leaving(&rig.home).is_empty());
}

#[test]
fn s35_what_lives_long_ends_when_the_time_of_the_former_edge_is_up() {
    let time = Duration::from_secs(2);
    let (instance, _say) = instance("served");
    let mut rig = Rig::within(Limits { leave: time, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut upgraded = upgraded(&rig);
    let mut streamed = rig.client();
    streamed.write("GET /stream HTTP/1.1\r\nHost: t\r\n\r\n");
    streamed.head().unwrap();
    let began = Instant::now();
    let mut second = succeed(&rig.home);
    echoes(&mut upgraded);
    for client in [&mut upgraded, &mut streamed] {
        let mut rest = Vec::new();
        client.read.read_to_end(&mut rest).ok();
        assert!(began.elapsed() >= time.mul_f32(0.75), "{:?}", began.elapsed());
    }
    rig.stop_edge();
    signal(&second, Signal::TERM);
    ends("the second", &mut second);
}

#[test]
fn s35_a_successor_that_dies_before_it_is_ready_changes_nothing() {
    let instance = Instance::says("served");
    let mut rig = Rig::without_edge();
    let mut first = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut kept = rig.client();
    // Without a keeper it gets no sockets.
    rig.keeper = None;
    let mut second = spawn(&rig.home, true);
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline {
        assert_eq!(kept.get("/").header("connection"), None);
    }
    assert!(second.try_wait().unwrap().is_none(), "it waits for them");
    signal(&second, Signal::KILL);
    second.wait().unwrap();
    assert_eq!(kept.get("/").header("connection"), None);
    assert!(reigns(&rig.home, &first));
    assert!(leaving(&rig.home).is_empty());
    signal(&first, Signal::TERM);
    ends("the first", &mut first);
}

const OLDER: &str = "EVENKEEL_TEST_OLDER_EDGE";

/// Not a test: an edge of an earlier version, which serves nothing.
#[test]
fn an_older_edge_process() {
    let Some(home) = std::env::var_os(OLDER) else { return };
    let home = Path::new(&home);
    let lock = std::fs::File::create(home.join("run/edge.lock")).unwrap();
    lock.lock().unwrap();
    let door = UnixListener::bind(home.join("run/edge.sock")).unwrap();
    for stream in door.incoming() {
        let mut stream = stream.unwrap();
        let mut byte = [0];
        while byte != [b'\n'] && stream.read_exact(&mut byte).is_ok() {}
        let text = "{\"version\":1,\"answer\":{\"Refused\":{\"because\":\"it cannot be read\",\
                    \"serving\":{\"epoch\":0,\"generation\":0}}}}\n";
        // Whoever only knocked is gone.
        let _gone = stream.write_all(text.as_bytes());
    }
}

#[test]
fn s35_one_that_knows_nothing_of_successors_is_told_to_end() {
    let instance = Instance::says("served");
    let rig = Rig::without_edge();
    std::fs::remove_file(rig.home.join("run/edge.sock")).unwrap();
    let mut older = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "successions::an_older_edge_process"])
        .env(OLDER, &rig.home)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("its door is open", || rig.home.join("run/edge.sock").exists());
    // Who comes meanwhile waits.
    let mut waiting =
        Client { read: std::io::BufReader::new(TcpStream::connect(rig.addr).unwrap()) };
    waiting.write("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let mut next = succeed(&rig.home);
    assert!(!older.wait().unwrap().success(), "the signal ended it");
    rig.door().apply(&table(1, &[(10_000, &[&instance])])).unwrap();
    let status = waiting.answer(false).unwrap().status;
    assert!([200, 503].contains(&status), "{status}");
    signal(&next, Signal::TERM);
    ends("the next", &mut next);
}

/// Calls again and again until it is told to stop, as a client of gRPC does: a call that was not
/// begun, because the connection goes away, is made on another one. Says how many were answered, and
/// what failed.
fn calls(addr: SocketAddr, stop: &AtomicBool, streams: bool) -> (u32, Vec<String>) {
    const GRPC: &str = "application/grpc";
    let (mut answered, mut failed) = (0, Vec::new());
    let mut client = H2Client::connect(addr);
    while !stop.load(Ordering::Relaxed) {
        let open = client.run(async |send| send.ready().await.is_ok());
        if !open {
            client = H2Client::connect(addr);
        }
        let well = match streams {
            false => client.try_ask(request("POST", "/one", GRPC), "hello").map(|answer| {
                let status = answer.trailers.and_then(|it| it.get("grpc-status").cloned());
                (answer.body == "hello" && status.is_some_and(|it| it == "0"), 1)
            }),
            true => client.run(async |send| talk(send).await),
        };
        match well {
            Ok((true, count)) => answered += count,
            Ok((false, _)) => failed.push("another answer".to_owned()),
            Err(error) if error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM) => {
                client = H2Client::connect(addr);
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    (answered, failed)
}

/// One call of ten messages both ways, over half a second.
async fn talk(send: SendRequest<Bytes>) -> Result<(bool, u32), h2::Error> {
    let mut send = send.ready().await?;
    let (response, mut stream) =
        send.send_request(request("POST", "/s", "application/grpc"), false)?;
    stream.send_data("message 0".into(), false)?;
    let mut body = response.await?.into_body();
    for n in 0..10 {
        if n > 0 {
            stream.send_data(format!("message {n}").into(), false)?;
        }
        let Some(data) = body.data().await else { return Ok((false, n)) };
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if data != format!("message {n}") {
            return Ok((false, n));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stream.send_data(Bytes::new(), true)?;
    let over = body.data().await.is_none();
    let status = body.trailers().await?.and_then(|it| it.get("grpc-status").cloned());
    Ok((over && status.is_some_and(|it| it == "0"), 10))
}

#[test]
fn s35_twenty_successors_under_calls_of_grpc_lose_none() {
    let instance = H2Instance::new(echo);
    let rig = Rig::without_edge();
    let mut edges = vec![start(&rig.home)];
    rig.serve(&table_at(1, &[(10_000, vec![instance.addr])]));
    let stop = AtomicBool::new(false);
    let addr = rig.addr;
    let told = thread::scope(|scope| {
        let callers: Vec<_> = [false, false, true, true]
            .map(|streams| {
                scope.spawn({
                    let stop = &stop;
                    move || calls(addr, stop, streams)
                })
            })
            .into_iter()
            .collect();
        for _ in 0..20 {
            edges.push(succeed(&rig.home));
        }
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    for (answered, failed) in &told {
        assert!(failed.is_empty(), "{failed:?}");
        assert!(*answered > 40, "{answered}");
    }
    let mut last = edges.pop().unwrap();
    for edge in &mut edges {
        ends("it holds nothing any more", edge);
    }
    signal(&last, Signal::TERM);
    ends("the last", &mut last);
}
