//! Orders in PostgreSQL, as one version of the code knows them: it names the columns of its own
//! shape and of no other, and looks for them where its address says.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::super::order::Order;
use super::feed::Reply;

/// How long the database may take.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// The largest order.
const BODY_BYTES_MAX: usize = 1 << 16;

/// What code says that was written for one shape: how an order is put, how it is got.
type Words = (&'static str, &'static str);

/// The code for each migration.
const SHAPES: [Words; 3] = [
    (
        "INSERT INTO orders (id, name, cents)
         VALUES ($1::bigint, $2::text, $3::bigint::integer)
         ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, cents = EXCLUDED.cents
         RETURNING id, name, cents::bigint",
        "SELECT id, name, cents::bigint FROM orders WHERE id = $1::bigint",
    ),
    (
        "INSERT INTO orders (id, first_name, last_name, cents)
         VALUES ($1::bigint, split_part($2::text, ' ', 1), split_part($2, ' ', 2), $3::bigint)
         ON CONFLICT (id) DO UPDATE SET first_name = EXCLUDED.first_name,
            last_name = EXCLUDED.last_name, cents = EXCLUDED.cents
         RETURNING id, first_name || ' ' || last_name, cents",
        "SELECT id, first_name || ' ' || last_name, cents FROM orders WHERE id = $1::bigint",
    ),
    (
        "INSERT INTO orders (id, first_name, last_name, price)
         VALUES ($1::bigint, split_part($2::text, ' ', 1), split_part($2, ' ', 2), $3::bigint / 100.0)
         ON CONFLICT (id) DO UPDATE SET first_name = EXCLUDED.first_name,
            last_name = EXCLUDED.last_name, price = EXCLUDED.price
         RETURNING id, first_name || ' ' || last_name, (price * 100)::bigint",
        "SELECT id, first_name || ' ' || last_name, (price * 100)::bigint
         FROM orders WHERE id = $1::bigint",
    ),
];

/// The orders of one instance.
#[derive(Debug)]
pub(super) struct Orders {
    address: String,
    words: Words,
    /// The connection that is there.
    connection: RefCell<Option<Rc<Connection>>>,
}

/// A connection, with what is asked over it again and again.
struct Connection {
    client: Client,
    put: Statement,
    get: Statement,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Orders {
    /// Those in the database that the environment names; nothing where it names none.
    pub(super) fn from_env() -> anyhow::Result<Option<Self>> {
        let Ok(address) = std::env::var("MAIN_URL") else { return Ok(None) };
        let shape: usize = super::number("SHAPE")?.unwrap_or(1);
        let words = shape.checked_sub(1).and_then(|at| SHAPES.get(at));
        let words = *words.with_context(|| format!("SHAPE={shape} is not 1 to 3"))?;
        Ok(Some(Self { address, words, connection: RefCell::default() }))
    }

    /// Answers a request for the order with this number.
    pub(super) async fn answer(&self, id: &str, request: Request<Incoming>) -> Response<Reply> {
        let Ok(id) = id.parse() else {
            return super::text(StatusCode::NOT_FOUND, "orders have numbers");
        };
        match timeout(ANSWER_MAX, self.exchange(id, request)).await {
            Ok(Ok(Some(order))) => super::json(&order),
            Ok(Ok(None)) => super::text(StatusCode::NOT_FOUND, "there is no such order"),
            Ok(Err(error)) => super::whole(StatusCode::BAD_GATEWAY, format!("{error:#}").into()),
            Err(_) => super::text(StatusCode::GATEWAY_TIMEOUT, "the database does not answer"),
        }
    }

    async fn exchange(&self, id: i64, request: Request<Incoming>) -> anyhow::Result<Option<Order>> {
        let puts = request.method() == Method::PUT;
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
        let Ok(body) = body else { bail!("too much, or cut off") };
        let connection = self.connection().await?;
        let Connection { client, put, get } = &*connection;
        let row = if puts {
            let order: Order = serde_json::from_slice(&body.to_bytes()).context("not an order")?;
            client.query_opt(put, &[&id, &order.name, &order.cents]).await
        } else {
            client.query_opt(get, &[&id]).await
        };
        let row = row.context("the database did not take it")?;
        Ok(row.as_ref().map(order).transpose()?)
    }

    async fn connection(&self) -> anyhow::Result<Rc<Connection>> {
        let kept = self.connection.borrow().clone();
        if let Some(kept) = kept.filter(|it| !it.client.is_closed()) {
            return Ok(kept);
        }
        let connected = tokio_postgres::connect(&self.address, NoTls).await;
        let (client, connection) = connected.context("no connection to the database")?;
        // Its error reaches the exchange as well.
        tokio::task::spawn_local(async move { drop(connection.await) });
        let (put, get) = self.words;
        let (put, get) = (client.prepare(put).await?, client.prepare(get).await?);
        let connection = Rc::new(Connection { client, put, get });
        self.connection.replace(Some(Rc::clone(&connection)));
        Ok(connection)
    }
}

fn order(row: &Row) -> Result<Order, tokio_postgres::Error> {
    Ok(Order { id: row.try_get(0)?, name: row.try_get(1)?, cents: row.try_get(2)? })
}
