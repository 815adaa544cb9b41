import CAgent

/// The guest agent: process 1 of an Aurora guest.
@main struct Main {
    static func main() {
        // Whatever the starter left open must not reach the programs the agent starts.
        sys_close_inherited()
        var options = Options()
        guard options.parse() else {
            Console(descriptor: 2).say("usage: agent [--test-socket PATH] [--test-etc DIRECTORY]")
            sys_exit(64)
        }
        guard let loop = EventLoop() else { sys_exit(1) }
        let agent = Agent(options, loop)
        agent.start()
        while true { agent.step() }
    }
}

/// The command line.
///
/// The kernel passes none; tests name a Unix socket.
struct Options {
    /// A Unix socket to listen on instead of vsock.
    ///
    /// The agent then touches neither mounts nor modules nor power.
    var testSocket: Text?
    /// Where `hosts` and `resolv.conf` are written.
    var etc: Text = "/etc"

    /// Reads the process's arguments; false when they make no sense.
    ///
    /// Embedded Swift has no `CommandLine`. As process 1 of a guest the agent finds no /proc yet, and has no options either.
    mutating func parse() -> Bool {
        let isFirst = sys_getpid() == 1
        var words = (Files.read("/proc/self/cmdline", bytesMax: 4096) ?? []).split(separator: 0)[...]
        _ = words.popFirst()
        while let name = words.popFirst() {
            guard let value = words.popFirst() else { return isFirst }
            if Text(name) == "--test-socket" {
                testSocket = Text(value)
            } else if Text(name) == "--test-etc" {
                etc = Text(value)
            } else if !isFirst {
                return false
            }
        }
        return testSocket != nil || isFirst
    }
}
