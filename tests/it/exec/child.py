"""A service for the tests of exec mode: notes its start, its arguments and every signal in the file `notes`."""
import os
import signal
import sys

NOTES = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(text):
    os.write(NOTES, (text + "\n").encode())


def name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return "SIGRTMIN+%d" % (number - signal.SIGRTMIN)


# They stay pending until they are waited for below, so that none comes in the middle of another's note.
SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
parent = os.getppid()
for argument in sys.argv[1:]:
    note("argument " + argument)
if os.path.exists("app.out"):
    with open("app.out") as rendered:
        note("read " + rendered.read().strip())
note("group of %s" % ("remco" if os.getpgid(0) == os.getpgid(parent) else "its own"))
note("started %d" % os.getpid())
print("the child's output", flush=True)
# Until the end of whoever started it, which is also the end of a test that failed.
ending = False
while os.getppid() == parent:
    came = signal.sigtimedwait(SIGNALS, 0 if ending else 1)
    if came is not None:
        note("signal " + name(came.si_signo))
        # Not before all that came together is noted.
        ending |= came.si_signo == signal.SIGTERM and "stubborn" not in sys.argv
    elif ending:
        note("ended")
        break
