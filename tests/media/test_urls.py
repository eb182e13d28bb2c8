"""Videos behind URLs: the same frames as of the file, and a sentence for what cannot be opened."""

import shutil
import subprocess

import numpy as np
import pytest

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading import urls
from qsam2_deploy.media.reading.sources import name_of, open_frames, open_indexed, source_from_text
from qsam2_deploy.media.reading.urls import public_url
from tests.support.media_samples import (
    decode_all,
    frame_number,
    write_large_video,
    write_sound,
    write_timed_video,
    write_video,
)
from tests.support.stream_servers import closed_port, serve_web, silent_port


@pytest.fixture
def web(tmp_path):
    with serve_web(tmp_path) as server:
        yield server


def _sentence(url):
    with pytest.raises(VideoError) as caught:
        open_frames(url)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.avi"])
def test_file_behind_a_url_has_the_frames_of_the_file(tmp_path, web, name):
    path = write_video(tmp_path / name, 20)
    with open_frames(path) as frames:
        expected, times = [], []
        for frame in frames:
            expected.append(frame)
            times.append(frames.shown)
    with open_frames(f"{web.url}/{name}") as frames:
        for index, frame in enumerate(frames):
            np.testing.assert_array_equal(frame, expected[index])
            assert frames.shown == times[index]
    assert index == 19
    assert frames.warning is None


def test_parts_of_a_file_are_asked_for(tmp_path, web):
    path = write_large_video(tmp_path / "v.mp4")
    with open_frames(f"{web.url}/v.mp4") as frames:
        assert frames.num_frames == 15
        np.testing.assert_array_equal(list(frames), decode_all(path))
    assert len(web.ranges) > 1


def test_part_of_a_file_behind_a_url(tmp_path, web):
    write_video(tmp_path / "v.mp4", 20)
    with open_frames(f"{web.url}/v.mp4", start=15) as frames:
        assert [frame_number(frame) for frame in frames] == [15, 16, 17, 18, 19]
    with pytest.raises(VideoError, match="cannot start at frame 20"):
        open_frames(f"{web.url}/v.mp4", start=20)


def test_sound_behind_a_url_is_told(tmp_path, web):
    write_timed_video(tmp_path / "v.mp4", [i / 25 for i in range(10)], sound=0.4)
    with open_frames(f"{web.url}/v.mp4") as frames:
        assert len(list(frames)) == 10
    assert "the sound of http://" in frames.warning


def test_playlist_of_urls_is_a_video(tmp_path, web):
    write_video(tmp_path / "v.ts", 10)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:0.4,", "v.ts", "#EXT-X-ENDLIST", ""]
    (tmp_path / "v.m3u8").write_text("\n".join(lines))
    with open_frames(f"{web.url}/v.m3u8") as frames:
        assert [frame_number(frame) for frame in frames] == list(range(10))


@pytest.mark.parametrize("target", ["file://{}", "{}", "concat:{}", "subfile,,start,0,end,0,,:{}"])
def test_playlist_opens_no_files(tmp_path, web, target):
    private = write_video(tmp_path / "private.ts", 10)
    target = target.format(private)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:0.4,", target, "#EXT-X-ENDLIST", ""]
    web.answers["/v.m3u8"] = lambda request: request.send("\n".join(lines).encode())
    assert "cannot open http://" in _sentence(f"{web.url}/v.m3u8")
    script = f"ffconcat version 1.0\nfile '{target}'\n"
    web.answers["/v.ffconcat"] = lambda request: request.send(script.encode())
    assert "http://" in _sentence(f"{web.url}/v.ffconcat")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_certificates_are_checked(tmp_path, monkeypatch, capfd):
    write_video(tmp_path / "v.mp4", 5)
    certificate = tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3"
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(certificate)]
    subprocess.run([*make.split(), *about, *files], check=True)
    certificate.write_text(certificate.read_text() + (tmp_path / "key.pem").read_text())
    with serve_web(tmp_path, certificate) as web:
        assert "its certificate is not trusted" in _sentence(f"{web.url}/v.mp4")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with open_frames(f"{web.url}/v.mp4") as frames:
            assert len(list(frames)) == 5
    capfd.readouterr()


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirect_to_a_file_is_refused(tmp_path, web, status):
    private = write_video(tmp_path / "private.mp4", 10)
    location = {"Location": f"file://{private}"}
    web.answers["/v.mp4"] = lambda request: request.send(b"", status=status, **location)
    assert "cannot open http://" in _sentence(f"{web.url}/v.mp4")


def test_redirect_to_another_url_is_followed(tmp_path, web):
    write_video(tmp_path / "v.mp4", 5)
    location = {"Location": f"{web.url}/v.mp4"}
    web.answers["/moved"] = lambda request: request.send(b"", status=302, length=0, **location)
    with open_frames(f"{web.url}/moved") as frames:
        assert len(list(frames)) == 5


def test_absent_file_behind_a_url(web):
    assert "404 Not Found; is the address right" in _sentence(f"{web.url}/v.mp4")


def test_web_page_is_no_video(web):
    page = b"<!DOCTYPE html><html>hello</html>"
    web.answers["/"] = lambda request: request.send(page, length=len(page))
    assert "the answer is no video" in _sentence(f"{web.url}/")


def test_sound_behind_a_url_is_no_video(tmp_path, web):
    write_sound(tmp_path / "v.wav")
    assert "is not a video" in _sentence(f"{web.url}/v.wav")


@pytest.mark.parametrize("scheme", ["http", "tcp", "rtsp", "rtmp"])
def test_port_on_which_nobody_listens(scheme):
    url = f"{scheme}://me:secret@127.0.0.1:{closed_port()}/live"
    assert "/live: Connection refused" in (text := _sentence(url))
    assert f"{scheme}://me:***@127.0.0.1" in text


@pytest.mark.parametrize("scheme", ["http", "tcp", "rtsp", "rtmp"])
def test_server_that_says_nothing(monkeypatch, scheme):
    monkeypatch.setattr(urls, "OPEN_SECONDS", 0.2)
    with silent_port() as port:
        text = _sentence(f"{scheme}://127.0.0.1:{port}/live")
    assert "no video came within 0.2 seconds" in text


def test_file_that_breaks_off_gives_what_it_has(tmp_path, web, monkeypatch):
    monkeypatch.setattr(urls, "RESUME_SECONDS", 0)
    data = write_video(tmp_path / "v.ts", 40).read_bytes()
    half = data[: len(data) // 2]
    web.answers["/v.ts"] = lambda request: request.send(half, length=len(data))
    with open_frames(f"{web.url}/v.ts") as frames:
        count = len(list(frames))
    assert 10 < count < 30
    assert f"broke off after {count} frames" in frames.warning


def test_file_that_breaks_off_is_asked_for_the_rest(tmp_path, web):
    data = write_video(tmp_path / "v.ts", 40).read_bytes()

    def answer(request):
        if "bytes=0-" in request.headers.get("Range", "bytes=0-"):
            request.send(data[:6000], length=len(data), **{"Accept-Ranges": "bytes"})
        else:
            request.send_file(data)

    web.answers["/v.ts"] = answer
    with open_frames(f"{web.url}/v.ts") as frames:
        assert len(list(frames)) == 40
    assert frames.warning is None


@pytest.mark.parametrize("url", ["gopher://127.0.0.1/v", "file:///v.mp4", "FTP://host/v.mp4"])
def test_protocol_that_is_not_allowed(url):
    scheme = url.partition(":")[0].lower()
    assert f"{scheme}:// is none of the protocols http, https, rtsp" in _sentence(url)


@pytest.mark.parametrize("text", ["concat:a.mp4|b.mp4", "data:video/mp4;base64,AA", "pipe:0"])
def test_other_text_with_a_colon_is_the_name_of_a_file(text):
    assert "there is no file" in _sentence(text)


def test_file_that_is_named_like_a_url_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    write_video(tmp_path / "http:" / "v.mp4", 5)
    with open_frames("http://v.mp4") as frames:
        assert len(list(frames)) == 5


def test_url_has_no_frame_numbers():
    with pytest.raises(VideoError, match=r"http://me:\*\*\*@h/v cannot be read by frame number"):
        open_indexed("http://me:secret@h/v")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:p:w@host:554/live", "rtsp://me:***@host:554/live"),
        ("rtsp://me@host/live", "rtsp://me@host/live"),
        ("http://host/v?user=me&PWD=secret&size=2", "http://host/v?user=me&PWD=***&size=2"),
        ("http://a:b@host/b?token=b%20c#b", "http://a:***@host/b?token=***#b"),
        ("rtsp://host:554/live@home", "rtsp://host:554/live@home"),
        ("http://[::1/v?a=1", "http://[::1/v?a=1"),
        ("udp://@239.0.0.1:5000", "udp://@239.0.0.1:5000"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    assert public_url(url) == shown
    assert name_of(url) == shown


def test_protocol_in_capitals(tmp_path, web):
    write_video(tmp_path / "v.mp4", 5)
    with open_frames(web.url.replace("http", "HTTP") + "/v.mp4") as frames:
        assert len(list(frames)) == 5


def test_url_on_the_command_line_stays_as_it_is():
    long = f"http://host/{300 * 'x'}"
    assert source_from_text(long) == long
    assert source_from_text("http://host/v.mp4") == "http://host/v.mp4"
