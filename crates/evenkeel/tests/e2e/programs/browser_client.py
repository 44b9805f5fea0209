"""A browser with one page, which tells what it meets through its console.

Arguments: the browser's program, a folder for its profile, the port of the edge with TLS.
"""
import os
import re
import signal
import subprocess
import sys
import threading

TELLS = re.compile(r'CONSOLE.*?"tell:(.*)", source: ')


def main():
    program, profile, port = sys.argv[1:]
    browser = subprocess.Popen(
        [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         f"--user-data-dir={profile}", "--enable-logging=stderr", "--ignore-certificate-errors",
         f"--host-resolver-rules=MAP house.test:443 127.0.0.1:{port}", "https://house.test/browser"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True)
    def end():
        sys.stdin.read()
        os.killpg(browser.pid, signal.SIGKILL)
    threading.Thread(target=end, daemon=True).start()
    told = '{"answers": {}, "failed": 0, "failures": [], "cuts": [], "done": false}'
    for line in browser.stderr:
        found = TELLS.search(line)
        if found:
            told = found[1]
            print(told, flush=True)
    browser.wait()
    print(told.replace('"done":false', '"done":true'), flush=True)


main()
