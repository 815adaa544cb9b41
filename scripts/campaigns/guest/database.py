"""SQLite: rows with a hash chain, in transactions; memory and database must be of the same moment."""
import sqlite3

PATH = "/var/lib/campaign/rows.db"
lock = threading.Lock()
state = {"counter": 0, "chain": b""}
os.makedirs("/var/lib/campaign", exist_ok=True)
journal = os.environ.get("JOURNAL", "wal")
database = sqlite3.connect(PATH, check_same_thread=False, isolation_level=None)
database.execute(f"pragma journal_mode={journal}")
database.execute("pragma synchronous=full")
database.execute("create table rows (number integer primary key, chain blob, filler blob)")
database.execute("create index chains on rows (chain)")


def work():
    attempts = 0
    while harness.error is None:
        with lock:
            database.execute("begin immediate")
            number, chain = state["counter"], state["chain"]
            for _ in range(5):
                number += 1
                chain = link(chain, number)
                database.execute("insert into rows values (?, ?, ?)", (number, chain, pattern(number, 128)))
            attempts += 1
            if attempts % 50 == 0:
                database.execute("update rows set filler = ? where number > ?", (b"changed", number - 500))
                database.execute("rollback")
                continue
            database.execute("commit")
            state["counter"], state["chain"] = number, chain
        time.sleep(0.003)


def verify(connection, last):
    found = connection.execute("pragma integrity_check").fetchall()
    harness.expect(found == [("ok",)], f"integrity_check: {found[:3]}")
    chain, count = b"", 0
    for number, stored, filler in connection.execute("select number, chain, filler from rows order by number"):
        count += 1
        chain = link(chain, count)
        if number != count or stored != chain or filler != pattern(count, 128):
            harness.fail(f"row {number} is wrong (expected row {count} of {last})")
            return
    # The program knows how many rows it has committed: neither the file nor the memory may be ahead.
    harness.expect(count == last, f"{count} rows in the database, {last} committed by the program")
    harness.expect(chain == state["chain"], "the chain of the database ends otherwise than the program's")


def check():
    with lock:
        verify(database, state["counter"])
        drop_caches()
        other = sqlite3.connect(PATH)
        verify(other, state["counter"])
        other.close()
        return {"counter": state["counter"]}


harness.status = lambda: {"counter": state["counter"], "chain": state["chain"].hex()}
harness.check = check
harness.serve()
harness.guard(work)
threading.Event().wait()
