"""One file from a server that breaks, changes, lies and dawdles: whole and unmixed, or an error."""

from __future__ import annotations

import datetime
import json
import ssl
import urllib.request
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import trustme
from breaking_server import Answer, serving

from gtgm.datasets import fetch as module
from gtgm.datasets.fetch import FetchError, fetch, forget, is_short, note
from gtgm.errors import DataError

BODY = np.random.default_rng(0).bytes(20_000)
OTHER = np.random.default_rng(1).bytes(20_000)
DATED = {"Last-Modified": "Wed, 01 May 2024 10:00:00 GMT"}


@pytest.fixture
def server(monkeypatch):
    with serving() as running:
        running.files["/f.bin"] = BODY
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that would have been made."""
    made = []
    monkeypatch.setattr(module, "sleep", made.append)
    return made


@pytest.fixture
def part(tmp_path):
    return tmp_path / "f.part"


def get(server, part: Path, checked=True, **more) -> bool:
    return fetch(f"{server.url}/f.bin", part, checked, progress=False, **more)


def ranges(server):
    return [asked for _, asked, _ in server.asked]


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("a connection broken in the middle", [Answer(cut=5000)]),
        ("a connection broken before the first byte", [Answer(cut=0)]),
        ("a connection broken four times", [Answer(cut=n) for n in (3000, 1, 0, 7000)]),
        ("a stalled connection", [Answer(cut=5000, stall=True)]),
        ("a server that never answers", [Answer(cut=0, stall=True)]),
        ("a slow, steady connection", [Answer(drip=2000)]),
        ("a length that promises too much", [Answer(longer=100)]),
        ("503, then the file", [Answer(503), Answer(503)]),
        ("429 with Retry-After, then the file", [Answer(429, {"Retry-After": "7"})]),
        ("chunks that end too early", [Answer(chunked=True, cut=5000)]),
        ("a server that cannot resume", [Answer(cut=5000), Answer(ranges=False)]),
        ("another range than asked for", [Answer(cut=5000), Answer(shift=1)]),
        ("a range that starts behind the part", [Answer(cut=5000), Answer(shift=-5000)]),
        ("dates in place of ETags", [Answer(cut=5000, marked=False, headers=DATED)] * 2),
        ("neither ETags nor dates", [Answer(cut=5000, marked=False)] * 2),
    ],
)
def test_the_file_arrives(evidence, server, part, name, plan):
    evidence("archive", "download", name)
    server.plan = list(plan)
    get(server, part, timeout=0.3 if any(answer.stall for answer in plan) else 10)
    assert part.read_bytes() == BODY and not is_short(part)
    assert server.plan == [] and (len(server.asked) > 1 or name.startswith("a slow"))


def test_pieces_are_continued_and_not_fetched_twice(server, part):
    server.plan = [Answer(cut=5000), Answer(cut=1000)]
    assert get(server, part) is False
    tag = json.loads(note(part).read_text())["validator"]
    assert ranges(server) == [None, "bytes=5000-", "bytes=6000-"]
    assert [condition for *_, condition in server.asked] == [None, tag, tag]
    forget(part)
    assert part.read_bytes() == b"" and get(server, part) is True


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("changed, other length", Answer(cut=5000), Answer(body=OTHER[:18_000])),
        ("changed, same length", Answer(cut=5000), Answer(body=OTHER)),
        (
            "changed, and the server ignores If-Range",
            Answer(cut=5000),
            Answer(206, {"ETag": '"new"', "Content-Range": "bytes 5000-19999/20000"}),
        ),
        (
            "changed, with dates only",
            Answer(cut=5000, marked=False, headers=DATED),
            Answer(body=OTHER, marked=False, headers={"Last-Modified": "now"}),
        ),
        ("shorter now than the part", Answer(cut=5000), Answer(body=OTHER[:4000])),
    ],
)
@pytest.mark.parametrize("checked", [True, False])
def test_a_file_that_changes_meanwhile_is_never_mixed(
    evidence, server, part, name, first, then, checked
):
    evidence("archive", "download", f"file {name}")
    server.files["/f.bin"] = then.body or OTHER
    first.body = BODY
    server.plan = [first, then]
    get(server, part, checked)
    assert part.read_bytes() == server.files["/f.bin"]


def test_a_later_command_knows_what_the_part_belongs_to(evidence, server, part):
    evidence("archive", "download", "file changed between two commands")
    server.plan = [Answer(cut=5000)]
    with pytest.raises(FetchError, match="ended at 5000 of 20000 bytes.*same command again"):
        get(server, part, attempts=1)
    assert part.read_bytes() == BODY[:5000] and is_short(part)
    server.files["/f.bin"] = OTHER
    get(server, part, checked=False)
    assert part.read_bytes() == OTHER and ranges(server) == [None, "bytes=5000-"]


@pytest.mark.parametrize("text", ["", "{", '{"other": 1}', "[]"])
def test_a_damaged_note_is_no_note(server, part, text):
    part.write_bytes(BODY[:100])
    note(part).write_text(text)
    get(server, part)
    assert part.read_bytes() == BODY and ranges(server) == ["bytes=100-"]


def test_without_checksum_only_what_the_server_vouches_for_is_continued(evidence, server, part):
    evidence("archive", "download", "a part of unknown origin, and no checksum")
    part.write_bytes(OTHER[:5000])
    get(server, part, checked=False)
    assert part.read_bytes() == BODY
    server.plan = [Answer(cut=5000, marked=False), Answer(marked=False), Answer(marked=False)]
    forget(part)
    get(server, part, checked=False)
    assert part.read_bytes() == BODY and ranges(server)[-1] is None
    server.usual = Answer(longer=None)
    forget(part)
    with pytest.raises(FetchError, match="neither length nor checksum"):
        get(server, part, checked=False)
    get(server, part)
    assert part.read_bytes() == BODY


def test_another_address_continues_what_a_checksum_will_judge(server, part):
    server.files["/mirror.bin"] = BODY
    server.plan = [Answer(cut=5000)]
    with pytest.raises(FetchError):
        get(server, part, attempts=1)
    fetch(f"{server.url}/mirror.bin", part, True, progress=False)
    assert part.read_bytes() == BODY
    assert server.asked[-1] == ("/mirror.bin", "bytes=5000-", None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 204])
def test_a_refusal_is_not_asked_again(evidence, server, part, pauses, status):
    evidence("archive", "download", f"the answer {status}")
    server.usual = Answer(status)
    with pytest.raises(FetchError, match=rf"does not give the file \({status} .*--mirror"):
        get(server, part)
    assert len(server.asked) == 1 and pauses == [] and not part.exists()


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_it_is_given_up_after_so_many_attempts_with_growing_pauses(
    evidence, server, part, pauses, status
):
    evidence("archive", "download", f"the answer {status} every time")
    server.usual = Answer(status)
    with pytest.raises(FetchError, match=f"answers {status} .*5 times in a row"):
        get(server, part)
    assert len(server.asked) == 5 and pauses == [1, 4, 16, 60]


@pytest.mark.parametrize(
    ("text", "pause"),
    [("7", 7), ("0", 1), ("9" * 30, 1), ("86400", 300), ("soon", 1), ("-5", 1),
     ("Wed, 01 May 2024 10:00:00 GMT", 1), ("Fri, 01 May 2899 10:00:00 GMT", 300)],
)  # fmt: skip
def test_retry_after_is_obeyed_within_reason(server, part, pauses, text, pause):
    server.plan = [Answer(503, {"Retry-After": text})]
    get(server, part)
    assert pauses == [pause]


def test_no_attempt_counts_that_brought_something(evidence, server, part, monkeypatch):
    evidence("archive", "download", "broken eleven times, a little further each time")
    monkeypatch.setattr(module, "PROGRESS", 1500)
    server.plan = [Answer(cut=1700) for _ in range(11)]
    get(server, part, attempts=2)
    assert part.read_bytes() == BODY and len(server.asked) == 12
    server.usual = Answer(cut=1700, ranges=False)  # the same bytes again and again
    forget(part)
    with pytest.raises(FetchError, match="2 times in a row"):
        get(server, part, attempts=2)


@pytest.mark.parametrize("name", ["no server", "a server without TLS"])
def test_no_connection(evidence, server, part, name, free_port):
    evidence("archive", "download", name)
    if name == "no server":
        with pytest.raises(FetchError, match="connection failed.*refused.*3 times in a row"):
            fetch(f"http://127.0.0.1:{free_port}/f.bin", part, True, 3, progress=False)
        return
    address = server.url.replace("http:", "https:")  # plain bytes where TLS was expected
    with pytest.raises(FetchError, match="connection failed.*SSL"):
        fetch(f"{address}/f.bin", part, True, 2, progress=False)


@pytest.fixture
def authority(monkeypatch, tmp_path):
    """Certificates of an authority that is trusted here, and nowhere else."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    # Since Python 3.12 an opener reads the authorities when it is built.
    monkeypatch.setattr(module, "_OPENER", urllib.request.build_opener(module._Redirections))
    return authority


def with_tls(issuer: trustme.CA, host: str = "127.0.0.1", **more) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert(host, **more).configure_cert(context)
    return context


def test_the_file_arrives_by_https(evidence, authority, part):
    evidence("archive", "download", "https, broken in the middle")
    with serving(with_tls(authority)) as server:
        server.files["/f.bin"] = BODY
        server.plan = [Answer(cut=5000), Answer(503)]
        get(server, part)
        assert server.url.startswith("https:") and ranges(server)[-1] == "bytes=5000-"
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("name", ["unknown authority", "another host", "expired"])
def test_certificates_that_do_not_vouch_for_the_server(evidence, authority, part, pauses, name):
    evidence("archive", "download", f"certificate: {name}")
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    tls = {
        "unknown authority": lambda: with_tls(trustme.CA()),
        "another host": lambda: with_tls(authority, "elsewhere.example"),
        "expired": lambda: with_tls(authority, not_after=yesterday),
    }[name]()
    with serving(tls) as server:
        server.files["/f.bin"] = BODY
        with pytest.raises(FetchError, match="certificate"):
            get(server, part)
        assert not part.exists() and not server.asked and not pauses


def test_redirections_are_followed_with_the_range(server, part):
    server.plan = [Answer(302, {"Location": "/f.bin"}), Answer(cut=5000)]
    server.plan.append(server.plan[0])
    fetch(f"{server.url}/elsewhere", part, True, progress=False)
    assert part.read_bytes() == BODY
    assert [path for path, *_ in server.asked] == ["/elsewhere", "/f.bin"] * 2
    assert ranges(server) == [None, None, "bytes=5000-", "bytes=5000-"]


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/f.bin"])
def test_a_redirection_elsewhere_than_http_is_refused(evidence, server, part, to):
    evidence("archive", "download", f"sent on to {to.partition(':')[0]}")
    server.usual = Answer(302, {"Location": to})
    with pytest.raises(FetchError):
        get(server, part)
    assert not part.exists() and len(server.asked) == 1


def test_no_redirection_leads_from_https_to_http(evidence):
    evidence("archive", "download", "sent on from https to http")
    follow = module._Redirections().redirect_request
    secure = urllib.request.Request("https://a.example/f?key=1")
    with pytest.raises(FetchError, match="from https on to http") as caught:
        follow(secure, None, 302, "", {}, "http://a.example/f")
    assert "key" not in str(caught.value)
    assert follow(secure, None, 302, "", {}, "https://b.example/f").host == "b.example"
    plain = urllib.request.Request("http://a.example/f")
    assert follow(plain, None, 302, "", {}, "https://a.example/f").type == "https"


def test_a_disk_that_is_too_small_is_said_before(evidence, server, part, monkeypatch):
    evidence("archive", "download", "more than the disk has free")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(1, 1, len(BODY) - 1))
    with pytest.raises(DataError, match="needs 0.00 GB.*--to") as caught:
        get(server, part)
    assert not isinstance(caught.value, FetchError) and not part.exists()
    part.write_bytes(BODY[:2])  # the rest fits
    get(server, part)
    assert part.read_bytes() == BODY


def test_a_disk_that_is_full_is_not_a_broken_connection(evidence, server, pauses):
    evidence("archive", "download", "a disk that ends meanwhile")
    full = Path("/dev/full")
    if not full.exists():
        pytest.fail("this system has no /dev/full")
    with (
        urllib.request.urlopen(f"{server.url}/f.bin") as response,
        module.tqdm(disable=True) as bar,
        pytest.raises(DataError, match="/dev/full: cannot be written: the disk is full"),
    ):
        module._copy(response, full, len(BODY), bar)
    assert pauses == []


def test_the_bar_starts_at_what_is_there(server, part, monkeypatch):
    shown = []

    class Bar(module.tqdm):
        def refresh(self, *args, **kwargs):
            shown.append((self.n, self.total))

    monkeypatch.setattr(module, "tqdm", Bar)
    server.plan = [Answer(cut=5000)]
    with pytest.raises(FetchError):
        get(server, part, attempts=1)
    get(server, part)
    assert shown == [(0, 20_000), (5000, 20_000)]


def test_keys_of_access_are_neither_kept_nor_shown(server, part):
    server.files["/f.bin?key=secret"] = BODY
    server.plan = [Answer(), Answer(404)]
    fetch(f"{server.url}/f.bin?key=secret", part, True, progress=False)
    assert part.read_bytes() == BODY and "secret" not in note(part).read_text()
    forget(part)
    with pytest.raises(FetchError) as caught:
        fetch(f"{server.url}/f.bin?key=secret", part, True, progress=False)
    assert "secret" not in str(caught.value)
