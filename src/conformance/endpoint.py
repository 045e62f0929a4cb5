"""OpenAI's client between TeamTR and a server: endpoint.py PORT URL FILE. What is posted to /v1/chat/completions is checked by the
client's own types, sent to URL by the client, written to FILE, and answered with the completion that the client read."""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import ConfigDict, TypeAdapter, with_config

port, url, file = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "w", buffering=1)
client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
typed = TypeAdapter(with_config(ConfigDict(extra="forbid"))(CompletionCreateParamsNonStreaming))


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, b"{}")

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            assert self.path == "/v1/chat/completions", self.path
            body = json.loads(text)
            typed.validate_python(body)
            completion = client.chat.completions.create(**body)
            file.write(json.dumps(body) + "\n")
            self.answer(200, completion.model_dump_json().encode())
        except Exception as e:
            self.answer(400, json.dumps({"error": {"message": repr(e)}}).encode())
            raise


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
