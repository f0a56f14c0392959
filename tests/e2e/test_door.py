"""Who may come in: encryption, certificates and tokens, the same for gRPC and HTTP."""

from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from services.certificates import SERVER_NAME, Authority
from services.models import LocalModel
from services.server import ServerProcess, ServerThread

from rm_grpc import errors
from rm_grpc_client import RewardClient, RewardEnvironment, Security
from rm_grpc_client.settings import ClientSettings
from rm_grpc_server.config import ServerSettings, parse
from rm_grpc_server.errors import ConfigError

GOOD = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "1+1=2"}]
TOKEN, OTHER = "a-token-of-the-tests", "another-token"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "theirs")


@pytest.fixture
def serve(logit: LocalModel) -> Iterator[Callable[..., ServerThread]]:
    """Starts servers that end with the test."""
    running: list[ServerThread] = []

    def start(**settings: object) -> ServerThread:
        server = ServerThread([logit], http="127.0.0.1:0", **{key: str(value) for key, value in settings.items()})
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


def tls(authority: Authority, name: str = "server") -> dict[str, Path]:
    pair = authority.issue(name)
    return {"tls_cert_file": pair.cert, "tls_key_file": pair.key}


def scored(server: ServerThread, **security: Any) -> float:
    with RewardClient(server.address, reconnect=2, security=Security(**security)) as client:
        return client.score([GOOD])[0].score


def over_https(server: ServerThread, authority: Authority, cert: tuple[str, str] | None = None, **options: Any) -> httpx.Client:
    context = ssl.create_default_context(cafile=authority.file)
    if cert is not None:
        context.load_cert_chain(*cert)
    return httpx.Client(base_url=f"https://{server.http_address}", verify=context, trust_env=False, **options)


# --- encryption -------------------------------------------------------------------------------------------------------


def test_both_ports_are_encrypted(serve: Callable[..., ServerThread], authority: Authority, stranger: Authority) -> None:
    server = serve(**tls(authority))
    assert scored(server, ca_file=authority.file) > 0
    assert scored(server, ca_file=authority.file, server_name=SERVER_NAME) > 0
    with pytest.raises(errors.UnavailableError, match="no server answered"):
        scored(server, ca_file=stranger.file)
    with pytest.raises(errors.UnavailableError, match="no server answered"):
        scored(server, ca_file=authority.file, server_name="somebody.else")
    with pytest.raises(errors.UnavailableError, match="no server answered"):
        scored(server)
    with over_https(server, authority) as http:
        assert http.get("/health").json()["ready"]
    with over_https(server, stranger) as http, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        http.get("/health")
    with httpx.Client(base_url=f"http://{server.http_address}", trust_env=False) as http, pytest.raises(httpx.HTTPError):
        http.get("/health")


def test_clients_bring_certificates(serve: Callable[..., ServerThread], authority: Authority, stranger: Authority) -> None:
    server = serve(**tls(authority), tls_client_ca_file=authority.file)
    known, unknown = authority.issue("worker", "worker.test"), stranger.issue("worker", "worker.test")
    assert scored(server, ca_file=authority.file, cert_file=known.cert, key_file=known.key) > 0
    for security in ({}, {"cert_file": unknown.cert, "key_file": unknown.key}):
        with pytest.raises(errors.UnavailableError, match="no server answered"):
            scored(server, ca_file=authority.file, **security)
    with over_https(server, authority, cert=(str(known.cert), str(known.key))) as http:
        assert http.get("/health").json()["ready"]
    for cert in (None, (str(unknown.cert), str(unknown.key))):
        with over_https(server, authority, cert=cert) as http, pytest.raises(httpx.HTTPError):
            http.get("/health")


@pytest.mark.parametrize("ask_by", ["name", "address"])
def test_a_replaced_certificate_counts_for_the_next_connection(
    serve: Callable[..., ServerThread], authority: Authority, stranger: Authority, ask_by: str
) -> None:
    pair = authority.issue(f"replaced-by-{ask_by}")
    server = serve(tls_cert_file=pair.cert, tls_key_file=pair.key)
    name = SERVER_NAME if ask_by == "name" else ""
    extensions = {"sni_hostname": name} if name else {}
    with RewardClient(server.address, security=Security(ca_file=authority.file, server_name=name)) as before:
        assert before.score([GOOD])
        pair.replace(stranger.issue("replacing"))
        assert before.score([GOOD]), "a connection that is there goes on"
        assert scored(server, ca_file=stranger.file, server_name=name) > 0
        with over_https(server, stranger) as http:
            assert http.get("/health", extensions=extensions).json()["ready"]
    with pytest.raises(errors.UnavailableError):
        scored(server, ca_file=authority.file, server_name=name)


def test_replaced_client_authorities_count_for_the_next_connection(
    serve: Callable[..., ServerThread], authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """One that is no longer trusted is not; over HTTP too, where the first context was made with it."""
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(authority.file.read_bytes())
    server = serve(**tls(authority, "rotating"), tls_client_ca_file=client_ca)
    old, new = authority.issue("old", "old.test"), stranger.issue("new", "new.test")
    client_ca.write_bytes(stranger.file.read_bytes())
    assert scored(server, ca_file=authority.file, cert_file=new.cert, key_file=new.key) > 0
    with pytest.raises(errors.UnavailableError):
        scored(server, ca_file=authority.file, cert_file=old.cert, key_file=old.key)
    with over_https(server, authority, cert=(str(new.cert), str(new.key))) as http:
        assert http.get("/health").json()["ready"]
    with over_https(server, authority, cert=(str(old.cert), str(old.key))) as http, pytest.raises(httpx.HTTPError):
        http.get("/health")


def test_a_half_replaced_pair_is_not_used(
    serve: Callable[..., ServerThread], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair, other = authority.issue("half"), authority.issue("whole")
    server = serve(tls_cert_file=pair.cert, tls_key_file=pair.key)
    pair.cert.write_bytes(other.cert.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert scored(server, ca_file=authority.file) > 0
    assert "cannot be used, so that the one before stays" in caplog.text
    pair.key.unlink()
    assert scored(server, ca_file=authority.file) > 0
    pair.key.write_bytes(other.key.read_bytes())
    with caplog.at_level(logging.INFO):
        assert scored(server, ca_file=authority.file) > 0
    assert "TLS certificate: replaced\n" in caplog.text


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_any_of_several_tokens_opens_every_door(
    serve: Callable[..., ServerThread], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the trainers\n\n{TOKEN}\n")
    monkeypatch.setenv("REWARD_TOKENS", f"{OTHER} third-token")
    server = serve(token_file=file, token_env="REWARD_TOKENS")
    for token in (TOKEN, OTHER, "third-token"):
        assert scored(server, token=token) > 0
        told = httpx.get(
            f"http://{server.http_address}/v1/models", headers={"authorization": f"bearer {token}"}, trust_env=False
        )
        assert told.status_code == 200
    own = tmp_path / "own"
    own.write_text(TOKEN + "\n")
    assert scored(server, token_file=own) > 0


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer two words", "Basic YTpi", "Bearer wrong", f"Bearer {TOKEN}x", TOKEN]
)
def test_who_brings_no_token_learns_nothing(serve: Callable[..., ServerThread], tmp_path: Path, header: str | None) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    server = serve(token_file=file)
    metadata = [("authorization", header)] if header is not None else []
    with grpc.insecure_channel(server.address) as channel:
        for service, method, streams in (
            ("rm_grpc.v1.RewardService", "Score", False),
            ("rm_grpc.v1.RewardService", "ScoreEach", False),
            ("rm_grpc.v1.RewardService", "ScoreBatch", True),
            ("rm_grpc.v1.RewardService", "ListModels", False),
            ("rm_grpc.v1.RewardService", "GetModel", False),
            ("rm_grpc.v1.RewardService", "Tokenize", False),
            ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", True),
        ):
            kind: Any = channel.stream_stream if streams else channel.unary_stream
            with pytest.raises(grpc.RpcError) as caught:
                list(kind(f"/{service}/{method}")(iter([b""]) if streams else b"", metadata=metadata, timeout=10))
            refused: Any = caught.value
            error = errors.from_rpc_error(refused.code(), refused.details(), refused.trailing_metadata())
            assert type(error) is errors.UnauthenticatedError, method
            assert TOKEN not in str(error)
        healthy = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        assert healthy == b"\x08\x01"
    headers = {"authorization": header} if header is not None else {}
    with httpx.Client(base_url=f"http://{server.http_address}", headers=headers, trust_env=False) as http:
        for path, body in (
            ("/v1/score_batch", {}),
            ("/v1/chat/completions", {}),
            ("/classify", {}),
            ("/rm_grpc.v1.RewardService/Score", {}),
        ):
            answer = http.post(path, json=body)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert "token" in answer.text.lower()
        assert http.get("/v1/models").status_code == 401
        assert http.get("/health").status_code == 200


def test_a_replaced_token_file_counts_for_the_next_call(
    serve: Callable[..., ServerThread], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    server = serve(token_file=file)
    assert scored(server, token=TOKEN) > 0
    file.write_text(OTHER)
    assert scored(server, token=OTHER) > 0
    with pytest.raises(errors.UnauthenticatedError):
        scored(server, token=TOKEN)
    file.write_text("# none yet\n")
    with caplog.at_level(logging.WARNING):
        assert scored(server, token=OTHER) > 0, "an empty file locks nobody out, and lets nobody in"
    assert "holds no token" in caplog.text
    file.unlink()
    assert scored(server, token=OTHER) > 0


async def test_an_environment_brings_the_token(
    serve: Callable[..., ServerThread], tmp_path: Path, authority: Authority
) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    servers = [serve(**tls(authority, f"fleet-{at}"), token_file=file) for at in range(2)]
    given = {"addresses": [one.address for one in servers], "ca_file": str(authority.file)}
    environ = {"RM_GRPC_CLIENT_TOKEN": TOKEN, "RM_GRPC_CLIENT_TLS": "true"}
    settings = ClientSettings.of(given, environ)
    assert TOKEN not in repr(settings)
    async with settings.environment() as environment:
        assert [reward.value for reward in await environment.rewards([GOOD] * 3)] == [pytest.approx(2.376, abs=1e-3)] * 3
    async with RewardEnvironment(servers[0].address, security=Security(ca_file=authority.file)) as environment:
        with pytest.raises(errors.UnauthenticatedError):
            await environment.rewards([GOOD])


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("security", "field"),
    [
        ({"cert_file": "a.pem"}, "key_file"),
        ({"key_file": "a.key"}, "cert_file"),
        ({"token": "two words"}, "token"),
        ({"token": "line\nbreak"}, "token"),
        ({"token": "ключ"}, "token"),
        ({"token": "a", "token_file": "b"}, "token_file"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file"),
        ({"token_file": "/nowhere/token"}, "token_file"),
    ],
)
def test_a_client_says_what_does_not_go_together(security: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        RewardClient("127.0.0.1:1", security=Security(**security))
    assert caught.value.field == field


def test_a_token_leaves_this_machine_encrypted_or_not_at_all() -> None:
    for address in ("10.1.2.3:50051", "rewards.example:50051", "dns:///rewards.example:1", "127.0.0.1:1,10.1.2.3:1"):
        with pytest.raises(errors.InvalidRequestError, match="without encryption") as caught:
            RewardClient(address, security=Security(token=TOKEN))
        assert TOKEN not in str(caught.value)
        RewardClient(address, security=Security(token=TOKEN, tls=True)).close()
        RewardClient(address, security=Security(token=TOKEN, insecure=True)).close()
    for address in ("127.0.0.1:50051", "localhost:50051", "[::1]:50051", "unix:/tmp/socket", "ipv4:127.0.0.1:1,127.0.0.2:1"):
        RewardClient(address, security=Security(token=TOKEN)).close()
    assert TOKEN not in repr(Security(token=TOKEN))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"listen": "0.0.0.0:0"}, "listen: .* encrypt with tls_cert_file"),
        ({"http": "0.0.0.0:0"}, "http: .* encrypt with tls_cert_file"),
        ({"tls_cert_file": "a.pem"}, "go together"),
        ({"tls_client_ca_file": "a.pem"}, "tls_client_ca_file: goes with"),
        ({"http_origins": "*"}, "http_origins: goes with http"),
    ],
)
def test_a_server_says_what_does_not_go_together(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(ServerSettings, settings, "settings")


def test_a_server_beyond_this_machine_needs_a_certificate_or_insecure() -> None:
    for more in ({"tls_cert_file": "a", "tls_key_file": "b"}, {"insecure": True}):
        assert parse(ServerSettings, {"listen": "0.0.0.0:50051", **more}, "settings").listen == "0.0.0.0:50051"


@pytest.mark.parametrize(
    "what", ["missing", "no PEM", "of another key", "encrypted key", "empty tokens", "two words", "no variable"]
)
def test_a_door_that_cannot_be_built_stops_the_start(
    serve: Callable[..., ServerThread], authority: Authority, tmp_path: Path, what: str
) -> None:
    pair, other = authority.issue(f"broken {what}"), authority.issue(f"other {what}")
    settings: dict[str, object] = {"tls_cert_file": pair.cert, "tls_key_file": pair.key}
    match what:
        case "missing":
            pair.key.unlink()
        case "no PEM":
            pair.cert.write_text("nothing")
        case "of another key":
            pair.key.write_bytes(other.key.read_bytes())
        case "encrypted key":
            key = pair.key.read_text().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY").replace("EC ENCRYPTED", "ENCRYPTED")
            pair.key.write_text(key)
        case "empty tokens" | "two words":
            file = tmp_path / "tokens"
            file.write_text("# none" if what == "empty tokens" else "two words")
            settings = {"token_file": file}
        case "no variable":
            settings = {"token_env": "NO_SUCH_VARIABLE_HERE"}
    with pytest.raises(ConfigError, match=r"tls_|token_"):
        serve(**settings)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_no_token_and_no_conversation_is_logged(tmp_path: Path) -> None:
    """With everything logged, through good calls, bad ones, refused ones and bytes that are no call."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    server = ServerProcess(tmp_path, "--log-level=debug", f"--token-file={tokens}", "--http=127.0.0.1:0")
    address, http_address = server.wait().split()
    secret = "the-canary-in-the-conversation"
    conversation = [{"role": "user", "content": secret}, {"role": "assistant", "content": f"{secret} 1+1=2"}]
    with RewardClient(address, security=Security(token=TOKEN)) as client:
        assert client.score(
            [conversation, conversation[:1], [{"role": secret, "content": secret}], f"<|eot_id|>{secret}"], on_error="return"
        )
        assert client.tokenize([conversation, f"{secret}<|im_start|>"])
        with pytest.raises(errors.ModelNotFoundError):
            client.get_model(secret)
    with pytest.raises(errors.UnauthenticatedError), RewardClient(address, security=Security(token=OTHER)) as client:
        client.score([conversation])
    with httpx.Client(base_url=f"http://{http_address}", headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False) as http:
        for path in (
            "/v1/score_batch",
            "/v1/chat/completions",
            "/classify",
            "/get_reward",
            f"/{secret}",
            f"/health?{secret}=1",
        ):
            for body in ({"messages": conversation}, {"input": secret, secret: secret}, {"query": [secret]}):
                http.post(path, json=body)
            http.post(path, content=f'{{"{secret}": '.encode())
    for port in (address, http_address):
        with socket.create_connection((port.partition(":")[0], int(port.partition(":")[2])), timeout=10) as raw:
            raw.sendall(f"GET /{secret} HTTP/1.1\r\nauthorization: {TOKEN}\r\n{secret}\r\n\r\n".encode())
            raw.recv(1000)
    log = server.stop()
    assert "serving arithmetic-logit" in log
    for hidden in (secret, TOKEN, OTHER, json.dumps(secret)):
        assert hidden not in log
