# Judges one answer by an item's own verifier. Reads a JSON object {check, constraints, answers, seconds, bytes} on standard input and
# writes one JSON line {status, ...}. Runs alone in its process, with limits, and without files to write, processes or network.
import ast
import io
import json
import resource
import sys

request = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"]))
resource.setrlimit(resource.RLIMIT_AS, (request["bytes"], request["bytes"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.mkdir",
             "os.rmdir", "os.kill", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.putenv", "shutil.", "ctypes.", "ftplib.",
             "urllib.", "http.", "smtplib.", "mmap.", "signal.", "webbrowser.")


def guard(event, args):
    if event.startswith(FORBIDDEN):
        raise PermissionError("not allowed in a verifier: " + event)
    if event == "open" and (not isinstance(args[1], str) or args[1].strip("rbtU")) and (args[2] or 0) & 0o1103:
        raise PermissionError("not allowed in a verifier: to write a file")


def literal(text):
    return ast.literal_eval(text.strip())


def read(text):
    """The literal of an answer, or None: comments cut, JSON's true and false as Python's, behind the first = if need be."""
    plain = "\n".join(line.split("//")[0] for line in text.split("\n")).replace("true", "True").replace("false", "False")
    try:
        return [literal(plain)]
    except Exception:
        pass
    try:
        return [literal(plain.split("=", 1)[1])] if "=" in plain else [json.loads(text)]
    except Exception:
        return None


def judge():
    inputs = read(request["answer"])
    if inputs is None:
        return {"status": "unread"}
    names = {"__name__": "verifier"}
    try:
        exec(compile(request["check"] + "\n" + request["constraints"], "verifier", "exec"), names)
        check, constraints = names["inputs_check"], list(names["constraint_list"])
    except Exception as e:
        return {"status": "fault", "reason": type(e).__name__ + ": " + str(e)}
    right = 0
    for number, function in enumerate([check] + constraints):
        try:
            holds = bool(function(inputs[0]))
        except (NameError, ImportError, SyntaxError, PermissionError) as e:  # of the verifier's own making
            return {"status": "fault", "reason": type(e).__name__ + ": " + str(e)}
        except Exception:
            holds = False
        if number == 0 and not holds:
            return {"status": "judged", "legal": False, "right": 0, "of": len(constraints)}
        right += holds if number else 0
    return {"status": "judged", "legal": True, "right": right, "of": len(constraints)}


sys.addaudithook(guard)
out, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
result = judge()
result["silent"] = not sys.stdout.getvalue() and not sys.stderr.getvalue()
out.write(json.dumps(result) + "\n")
out.flush()
