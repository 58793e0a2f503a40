//! Relays and servers that redirect, answer garbage, never end or answer late, and proxies nobody asked for.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use delta_client::RelayHops;
use delta_core::engine::{RENEW_RETRY_MAX_MS, STALE_AFTER_MS};
use delta_core::identity::Millis;
use delta_sim::script::{Answer, Garbage, PostAct, SubscribeAct};
use tokio::net::TcpListener;

use crate::device::{Device, ticket};
use crate::net::{Net, RELAYS, now};

/// Every relay treats its next POSTs like this.
fn next_posts(net: &Net, times: u64, act: PostAct) {
    net.world().relays.iter_mut().for_each(|relay| {
        relay.script.post(times, act);
    });
}

/// Old enough to be renewed at once, and to be used for nothing before.
fn stale(net: &Net) -> RelayHops {
    RelayHops::Pool(net.records(Millis(now().0 - STALE_AFTER_MS - 3_600_000)))
}

/// Lets the device's time run until it has asked as many relays as there are for records.
async fn until_all_were_asked(net: &Net, device: &Device) {
    while net.world().record_sets < RELAYS {
        device.clock.forward(60_000);
        device.client.status(device.topic).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn case_30_a_redirect_is_not_followed_and_the_packet_is_sent_another_way() {
    let net = Net::start().await;
    next_posts(&net, 2, PostAct::Refuse(Answer::Redirect));
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let id = a.say("not to them").await;
    a.until_acknowledged_in_time(id).await;
    assert_eq!((net.head(&a.topic), net.world().astray), (1, 0));
}

#[tokio::test]
async fn case_30_nothing_that_is_asked_for_is_sought_where_a_redirect_leads() {
    let net = Net::start().await;
    net.world().says = Some(Answer::Redirect);
    let a = Device::offline(1, &ticket(1)).await;
    let error = a.client.init_sync(&net.hops(), &net.sync_url()).await.unwrap_err();
    assert_eq!((error.code(), net.world().infos), ("server_unreachable", 1));
    // Records: every relay is asked, and none sends the device on.
    let mut hops = stale(&net);
    if let RelayHops::Pool(records) = &mut hops {
        records.push(net.server_record(net.began()));
    }
    a.client.init_sync(&hops, &net.sync_url()).await.unwrap();
    until_all_were_asked(&net, &a).await;
    net.world().says = None;
    a.clock.forward(RENEW_RETRY_MAX_MS);
    // The stream, too.
    net.world().server.script.subscribe(2, SubscribeAct::Refuse(Answer::Redirect));
    a.join(&net).await;
    let mut a = a;
    a.until_live().await;
    assert_eq!(net.world().astray, 0);
}

/// Whatever the entry relay answers, and whether or not it passed the packet on: one entry, and no memory for what
/// never ends.
#[tokio::test]
async fn garbage_endless_and_late_answers_cost_nothing_but_another_packet() {
    let garbage = [Garbage::Noise, Garbage::EndlessHead, Garbage::EndlessBody].map(Answer::Bytes);
    let answers = garbage.into_iter().chain([Answer::Cut, Answer::Redirect, Answer::Late(202, 300)]);
    for (seed, answer) in (1..).zip(answers) {
        for act in [PostAct::Answer(answer), PostAct::Refuse(answer)] {
            let net = Net::start().await;
            next_posts(&net, 1, act);
            let mut a = Device::on(&net, 1, &ticket(seed)).await;
            a.until_live().await;
            let id = a.say("once").await;
            a.until_acknowledged_in_time(id).await;
            assert_eq!((net.head(&a.topic), net.world().astray), (1, 0), "{act:?}");
            let endless = [Garbage::EndlessHead, Garbage::EndlessBody].map(Answer::Bytes).contains(&answer);
            while endless && net.world().cut_off == 0 {
                tokio::task::yield_now().await;
            }
            a.client.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_no_record_and_no_set_of_records() {
    for garbage in [Garbage::Noise, Garbage::EndlessHead, Garbage::EndlessBody] {
        let net = Net::start().await;
        net.world().says = Some(Answer::Bytes(garbage));
        let mut a = Device::offline(1, &ticket(1)).await;
        let error = a.client.init_sync(&net.hops(), &net.sync_url()).await.unwrap_err();
        assert_eq!(error.code(), "server_unreachable", "{garbage:?}");
        let RelayHops::Pool(mut records) = stale(&net) else { unreachable!() };
        records.push(net.server_record(net.began()));
        a.client.init_sync(&RelayHops::Pool(records), &net.sync_url()).await.unwrap();
        until_all_were_asked(&net, &a).await;
        net.world().says = None;
        let id = a.say("when they answer").await;
        a.until_acknowledged_in_time(id).await;
        assert_eq!(net.head(&a.topic), 1, "{garbage:?}");
    }
}

/// What a machine's variables name as its proxies.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The whole of what a client does over the network, alone in a process: the next test runs it with other variables.
#[tokio::test]
async fn a_device_sends_reads_and_renews() {
    let net = Net::start().await;
    net.world().offers_tunnels = true;
    let mut a = Device::offline(1, &ticket(1)).await;
    a.client.init_sync(&stale(&net), &net.sync_url()).await.unwrap();
    let id = a.say("with no proxy between").await;
    a.until_acknowledged(id).await;
    let world = net.world();
    assert!(world.packets > 0 && world.tunnels > 0 && world.infos > 0 && world.record_sets > 0);
}

#[tokio::test]
async fn proxy_variables_are_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy: SocketAddr = listener.local_addr().unwrap();
    // The test above, in this program and with these variables.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "hostile::a_device_sends_reads_and_renews"]);
    command.env_remove("no_proxy").env_remove("NO_PROXY").stdin(Stdio::null());
    command.envs(PROXIES.map(|name| (name, format!("http://{proxy}"))));
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    // Whoever had connected would be waiting to be accepted.
    let nobody = listener.into_std().unwrap();
    assert_eq!(nobody.accept().map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
