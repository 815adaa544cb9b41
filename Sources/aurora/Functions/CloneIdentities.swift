import AgentClient
import AgentProtocol
import CLinux
import Linux

/// What must differ between clones, as each of them tells it.
enum CloneIdentities {
    /// What was compared.
    struct Figures: Encodable {
        /// Different values among the clones: random bytes, UUIDs, boot identities, initial TCP sequence numbers.
        var random = 0
        var uuids = 0
        var boots = 0
        var sequenceNumbers = 0
        var clones = 0
        /// The greatest distance of a guest's clock from the span in which the host asked for it, in milliseconds.
        var clockMilliseconds = 0.0
        /// Whether all values differ.
        var allDiffer: Bool { random == clones && uuids == clones && boots == clones && sequenceNumbers == clones }
    }

    /// Prints 32 random bytes, a UUID, the boot identity, the sequence number of a SYN to a closed port, and the time.
    private static let script = """
        od -An -N32 -tx1 /dev/urandom | tr -d ' \\n'; echo; cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id
        perl -MSocket -e 'socket(R,17,3,unpack("S",pack("n",3)))||die; socket(T,2,1,0); alarm 5;
        if(!fork){select(undef,undef,undef,0.01);
        connect(T,sockaddr_in(9,inet_aton("127.0.0.1")));exit}
        while(1){recv(R,$f,2048,0); my $i=substr($f,14); next if ord(substr($i,9,1))!=6;
        my $t=substr($i,4*(ord($i)&15)); next if (ord(substr($t,13,1))&18)!=2; print unpack("N",substr($t,4,4)),"\\n"; last}'
        read x; date +%s%N
        """
    private static let seconds = 30

    /// Asks every clone through the agent at the end of its channel.
    static func compare(_ channels: [SharedDescriptor]) throws -> Figures {
        var figures = Figures()
        var found: [[String]] = []
        for channel in channels {
            let client = try AgentClient(adopting: try OwnedDescriptor.duplicate(of: channel), timeout: .seconds(seconds))
            let session = try client.start(
                StartRequest(arguments: ["sh", "-c", script].map { Text($0) }, wantsInput: true), timeout: .seconds(seconds))
            var output: [UInt8] = []
            try read(session, into: &output, lines: 4)
            let asked = clinux_wall_nanoseconds()
            _ = try session.send(input: Array("\n".utf8))
            try read(session, into: &output, lines: 5)
            let answered = clinux_wall_nanoseconds()
            let lines = String(decoding: output, as: UTF8.self).split(separator: "\n").map(String.init)
            guard lines.count >= 5, let time = Int64(lines[4]) else { continue }
            figures.clockMilliseconds = max(figures.clockMilliseconds, Double(max(asked - time, time - answered, 0)) / 1e6)
            found.append(lines)
        }
        figures.clones = channels.count
        figures.random = Set(found.map { $0[0] }).count
        figures.uuids = Set(found.map { $0[1] }).count
        figures.boots = Set(found.map { $0[2] }).count
        figures.sequenceNumbers = Set(found.map { $0[3] }).count
        return figures
    }

    private static func read(_ session: ExecSession, into output: inout [UInt8], lines: Int) throws {
        while output.count(where: { $0 == UInt8(ascii: "\n") }) < lines {
            switch try session.next(timeout: .seconds(seconds)) {
            case .output(let bytes): output += bytes
            case .exited: return
            default: break
            }
        }
    }
}
