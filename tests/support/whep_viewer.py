"""A viewer by WHEP that is neither a browser nor str0m: webrtcbin of GStreamer.

    /usr/bin/python3 whep_viewer.py http://127.0.0.1:8888/live/cam1/whep WANTED FILE

FILE has a certificate (ECDSA) and its key. Plays until WANTED pictures and as many pieces of sound are decoded, then says how large the
pictures are and how many channels the sound has, ends its session, and leaves with 0. Anything
else is an error, which is said, and 1.
"""

import hashlib
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

VIDEO = (
    "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f,rtcp-fb-nack-pli=(boolean)true"
)
AUDIO = (
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,"
    "encoding-params=(string)2"
)
DECODERS = {
    "video": "rtph264depay ! h264parse ! avdec_h264 ! fakesink name=end signal-handoffs=true",
    "audio": "rtpopusdepay ! opusdec ! fakesink name=end signal-handoffs=true",
}
PATIENCE_S = 40


class Viewer:
    def __init__(self, url, wanted, certificate):
        self.url, self.wanted, self.certificate = url, wanted, certificate
        self.session, self.failure = None, None
        self.decoded = {kind: 0 for kind in DECODERS}
        self.caps = {}
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.Pipeline.new(None)
        self.pipeline.connect("deep-element-added", self.certify)
        self.peer = Gst.ElementFactory.make("webrtcbin", None)
        self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.peer)
        for caps in (VIDEO, AUDIO):
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.peer.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
        self.peer.connect("pad-added", self.add)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.fail(message.parse_error()))

    def run(self):
        GLib.timeout_add_seconds(PATIENCE_S, lambda: self.fail(f"in vain: {self.decoded}"))
        GLib.idle_add(self.offer)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        if self.failure:
            sys.exit(f"failed: {self.failure}")
        delete = urllib.request.Request(self.session, method="DELETE")
        urllib.request.urlopen(delete, timeout=10).close()
        self.pipeline.set_state(Gst.State.NULL)
        video, audio = self.caps["video"], self.caps["audio"]
        print(video.get_value("width"), video.get_value("height"), audio.get_value("channels"))

    def fail(self, why):
        self.failure = why
        self.loop.quit()
        return False

    def offer(self):
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.post, None))
        return False

    def post(self, promise, _):
        try:
            # The reply owns the offer.
            reply = promise.get_reply()
            offer = reply.get_value("offer")
            # GStreamer takes the key for a part of the certificate.
            told = f"a=fingerprint:sha-256 {self.fingerprint()}"
            body = re.sub("a=fingerprint:[^\\r\\n]*", told, offer.sdp.as_text()).encode()
            self.peer.emit("set-local-description", offer, None)
            headers = {"Content-Type": "application/sdp"}
            request = urllib.request.Request(self.url, body, headers)
            with urllib.request.urlopen(request, timeout=20) as answer:
                self.session = urllib.parse.urljoin(self.url, answer.headers["Location"])
                _, sdp = GstSdp.SDPMessage.new_from_text(answer.read().decode())
            kind = GstWebRTC.WebRTCSDPType.ANSWER
            answer = GstWebRTC.WebRTCSessionDescription.new(kind, sdp)
            self.peer.emit("set-remote-description", answer, None)
        except urllib.error.HTTPError as error:
            self.fail(f"{error.code} {error.read()}")
        except Exception as error:  # noqa: BLE001, whatever it is is said
            self.fail(repr(error))

    def fingerprint(self):
        end = "-----END CERTIFICATE-----"
        der = ssl.PEM_cert_to_DER_cert(self.certificate.split(end)[0] + end)
        return hashlib.sha256(der).digest().hex(":").upper()

    def certify(self, _, __, element):
        # Its own certificates are of RSA, which the server does not take.
        if element.get_factory() and element.get_factory().get_name() == "dtlssrtpdec":
            element.set_property("pem", self.certificate)

    def add(self, _, pad):
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        decoder = Gst.parse_bin_from_description(DECODERS[kind], True)
        decoder.get_by_name("end").connect("handoff", self.take, kind)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def take(self, _, __, pad, kind):
        self.decoded[kind] += 1
        self.caps[kind] = pad.get_current_caps().get_structure(0)
        if all(count >= self.wanted for count in self.decoded.values()):
            GLib.idle_add(self.loop.quit)


if __name__ == "__main__":
    Gst.init(None)
    with open(sys.argv[3], encoding="ascii") as pem:
        Viewer(sys.argv[1], int(sys.argv[2]), pem.read()).run()
