#include "TestProcess.h"

#include <signal.h>

/// Before any test: a peer that goes away is an error of the call, as in the commands, and not the end of all tests.
__attribute__((constructor)) static void ignore_broken_pipes(void) { signal(SIGPIPE, SIG_IGN); }
