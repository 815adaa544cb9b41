/// The process of the tests, as the programs that the tested code belongs to set it up: SIGPIPE is ignored.
#pragma once
