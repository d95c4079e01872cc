# python -c THIS SCRIPT [ARGUMENT...]: runs a script, and ends when standard input closes: the test holds the other end, so the
# script ends with it, however it ends.
import os
import runpy
import sys
import threading


def watch():
    os.read(0, 1)
    os._exit(1)


threading.Thread(target=watch, daemon=True).start()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
