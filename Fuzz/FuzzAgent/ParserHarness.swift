import AgentProtocol
import CLinux
import GuestAgentCore

/// Reads bytes as each text or datagram of a kernel that the agent knows.
enum ParserHarness {
    private static let limit = 64

    /// Gives the bytes to one parser.
    static func readKernelText(_ which: UInt8, _ bytes: [UInt8]) {
        switch which % 11 {
        case 0: _ = ProcessParser.parseStat(bytes)
        case 1: _ = ProcessParser.parseIdentity(status: bytes)
        case 2:
            for kind in DescriptorObject.Kind.allCases {
                var object = DescriptorObject()
                object.kind = kind
                DescriptorParser.parseInfo(bytes, into: &object)
            }
        case 3: _ = SocketParser.parseUnix(bytes, limit: limit)
        case 4: _ = SocketParser.parseInternet(bytes, .tcp6, limit: limit)
        case 5: _ = MappingParser.parse(bytes, process: 1, limit: limit)
        case 6: for kind in SysVObject.Kind.allCases { _ = InterprocessParser.parseSysV(bytes, kind, limit: limit) }
        case 7:
            var sockets: [UnixSocketObject] = []
            _ = SocketDiagnostics.parse(bytes, into: &sockets, limit: limit)
        case 8: _ = Accounts.resolve(Text(bytes.prefix(8)), passwd: bytes, group: bytes)
        case 9: readRuntimeRequests(bytes)
        default:
            let line = KernelCommandLine(bytes)
            _ = line.value(of: "aurora.root")
            _ = line.moduleParameters("aurora")
            _ = DescriptorParser.kind(link: Text(bytes), mode: 0o020000)
            _ = AddressFormat.text(Array(bytes.prefix(16)))
        }
    }

    /// The bytes of a runtime's HTTP connection, in pieces of the length that the first byte says.
    private static func readRuntimeRequests(_ bytes: [UInt8]) {
        var parser = RuntimeRequestParser()
        let length = max(1, Int(bytes.first ?? 1))
        var rest = bytes.dropFirst()
        do throws(RuntimeRequestFault) {
            while !rest.isEmpty {
                let piece = [UInt8](rest.prefix(length))
                rest = rest.dropFirst(length)
                var position = 0
                while try parser.next(piece.span, &position) != .needsMore {}
                guard position == piece.count else {
                    print("the parser wants more and leaves bytes unread")
                    abort()
                }
            }
        } catch { return }
    }
}
