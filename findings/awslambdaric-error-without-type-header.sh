#!/usr/bin/env bash
# AWS's Python runtime client tells the kind of an error of start and restore in a header, and not that of a request.
#
# Seen:    awslambdaric 4.2.2 with simplejson 4.3.0 (PyPI), Python 3.11, against a runtime API on loopback.
# Guessed: Lambda-Runtime-Function-Error-Type is sent with every error, so that the other side need not read the body; print() goes
#          through the framed log descriptor that the environment names, like logging.
# Is:      a handler's exception and an answer that is no JSON are posted to …/error without the header; a failing import is posted to
#          init/error with it. print() stays on standard output while logging goes, framed, to the descriptor.
# Matters: a gateway that takes "Unhandled" or the type from that header has neither; one that reads the descriptor alone loses print().
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check awslambdaric==4.2.2 simplejson==4.3.0
cat >app.py <<'END'
import logging


def handler(event, context):
    print("printed")
    logging.getLogger().error("logged")
    if event == "raise":
        raise ValueError("no")
    return object()
END
cat >runtime_api.py <<'END'
"""The runtime API: hands out two events, notes what is posted, and ends the client after it."""
import http.server, os, subprocess, sys, threading

events = [b'"raise"', b'"answer"']
names = []
over = threading.Event()


class API(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if not events:
            over.set()
            threading.Event().wait(30)
        self.reply(200, events.pop(0), Lambda_Runtime_Aws_Request_Id=f"r{len(events)}", Lambda_Runtime_Deadline_Ms="9999999999999",
                   Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:local:0:function:f", Content_Type="application/json")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        names.append(f"{self.path.split('/', 3)[3]}: {self.headers.get('Lambda-Runtime-Function-Error-Type')}")
        self.reply(202)
        if "init/error" in self.path:
            over.set()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), API)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
reading, writing = os.pipe()
environment = dict(os.environ, AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{server.server_port}", _LAMBDA_TELEMETRY_LOG_FD=str(writing),
                   AWS_LAMBDA_FUNCTION_NAME="f", AWS_LAMBDA_FUNCTION_VERSION="1", AWS_LAMBDA_FUNCTION_MEMORY_SIZE="128", PYTHONPATH=".",
                   AWS_LAMBDA_LOG_GROUP_NAME="g", AWS_LAMBDA_LOG_STREAM_NAME="s", AWS_REGION="us-east-1")
for handler in ["app.handler", "missing.handler"]:
    over.clear()
    client = subprocess.Popen([sys.executable, "-u", "-m", "awslambdaric", handler], env=environment, pass_fds=[writing],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert over.wait(60), "the client asked for nothing within a minute"
    client.kill()
    out = client.communicate()[0]
    if handler == "app.handler":
        framed = os.read(reading, 1 << 16)
        print("print() on standard output:", b"printed" in out, "framed:", b"printed" in framed)
        print("logging on standard output:", b"logged" in out, "framed:", b"logged" in framed)
for name in names:
    print(name)
END
timeout 120 venv/bin/python runtime_api.py | tee seen
diff - seen <<'END'
print() on standard output: True framed: False
logging on standard output: False framed: True
invocation/r1/error: None
invocation/r0/error: None
init/error: Runtime.ImportModuleError
END
