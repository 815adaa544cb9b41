#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Reads `/proc/net/unix`, `tcp`, `tcp6`, `udp` and `udp6`.
public enum SocketParser {
    /// The sockets of `/proc/net/unix`.
    ///
    /// Peers and queues are not told there.
    ///
    /// `Num RefCount Protocol Flags Type St Inode Path`, all but the inode in hexadecimal.
    public static func parseUnix(_ text: [UInt8], limit: Int) -> [UnixSocketObject] {
        var sockets: [UnixSocketObject] = []
        var file = TextScanner(text)
        _ = file.nextLine()
        while sockets.count < limit, var line = file.nextLine() {
            var socket = UnixSocketObject()
            guard line.field(upTo: UInt8(ascii: ":")) != nil, line.unsigned(16) != nil, line.unsigned(16) != nil,
                let flags = line.unsigned(16), let type = line.unsigned(16), let state = line.unsigned(16),
                let inode = line.unsigned()
            else { continue }
            socket.inode = inode
            socket.type = UInt8(exactly: type).flatMap(UnixSocketObject.Kind.init) ?? .stream
            // __SO_ACCEPTCON
            socket.state =
                flags & 0x1_0000 != 0 ? .listening : UInt8(exactly: state).flatMap(UnixSocketObject.State.init) ?? .unconnected
            line.skipBlanks()
            socket.path = line.rest()
            sockets.append(socket)
        }
        return sockets
    }

    /// The sockets of one of the four internet tables.
    ///
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`
    public static func parseInternet(_ text: [UInt8], _ transport: InternetSocketObject.Transport, limit: Int) -> [InternetSocketObject] {
        var sockets: [InternetSocketObject] = []
        var file = TextScanner(text)
        _ = file.nextLine()
        while sockets.count < limit, var line = file.nextLine() {
            guard line.field(upTo: UInt8(ascii: ":")) != nil else { continue }
            var socket = InternetSocketObject()
            socket.transport = transport
            guard let local = parseEndpoint(&line), let remote = parseEndpoint(&line), let state = line.unsigned(16),
                let sending = line.unsigned(16), line.take(":"), let receiving = line.unsigned(16)
            else { continue }
            _ = line.word()
            _ = line.word()
            guard let user = line.unsigned(), line.unsigned() != nil, let inode = line.unsigned() else { continue }
            (socket.localAddress, socket.localPort) = local
            (socket.remoteAddress, socket.remotePort) = remote
            socket.state = UInt8(exactly: state).flatMap(InternetSocketObject.State.init) ?? .closed
            socket.sendQueue = UInt32(truncatingIfNeeded: sending)
            socket.receiveQueue = UInt32(truncatingIfNeeded: receiving)
            socket.user = UInt32(truncatingIfNeeded: user)
            socket.inode = inode
            sockets.append(socket)
        }
        return sockets
    }

    /// `0100007F:18EB`: 32-bit words in the byte order of the machine, then the port.
    private static func parseEndpoint(_ line: inout TextScanner) -> (Text, UInt16)? {
        line.skipBlanks()
        guard let digits = line.field(upTo: UInt8(ascii: ":")), let port = line.unsigned(16) else { return nil }
        guard digits.bytes.count == 8 || digits.bytes.count == 32 else { return nil }
        var address: [UInt8] = []
        for start in stride(from: 0, to: digits.bytes.count, by: 8) {
            var word = TextScanner([UInt8](digits.bytes[start..<start + 8]))
            guard let value = word.unsigned(16), word.isAtEnd else { return nil }
            for shift in 0..<4 { address.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * shift))) }
        }
        return (AddressFormat.text(address), UInt16(truncatingIfNeeded: port))
    }
}

/// Spells internet addresses.
public enum AddressFormat {
    /// `127.0.0.1` for four bytes, `::1` for sixteen (RFC 5952: the longest run of zeros is left out).
    public static func text(_ address: [UInt8]) -> Text {
        if address.count == 4 {
            var text = Text.decimal(Int(address[0]))
            for byte in address[1...] { text = text + "." + Text.decimal(Int(byte)) }
            return text
        }
        guard address.count == 16 else { return "?" }
        if address.prefix(10).allSatisfy({ $0 == 0 }) && address[10] == 0xFF && address[11] == 0xFF {
            return "::ffff:" + text([UInt8](address[12...]))
        }
        return words((0..<8).map { UInt16(address[2 * $0]) << 8 | UInt16(address[2 * $0 + 1]) })
    }

    private static func words(_ words: [UInt16]) -> Text {
        var best = 0..<0
        var start = 0
        for index in 0...8 where index == 8 || words[index] != 0 {
            if index - start > max(1, best.count) { best = start..<index }
            start = index + 1
        }
        var text = Text()
        var index = 0
        while index < 8 {
            if index == best.lowerBound && !best.isEmpty {
                text = text + "::"
                index = best.upperBound
                continue
            }
            if !text.isEmpty && !text.hasSuffix(":") { text = text + ":" }
            text = text + hexadecimal(words[index])
            index += 1
        }
        return text
    }

    private static func hexadecimal(_ value: UInt16) -> Text {
        var digits: [UInt8] = []
        for shift in [12, 8, 4, 0] as [UInt16] {
            let digit = UInt8(truncatingIfNeeded: value >> shift & 15)
            if digit != 0 || !digits.isEmpty || shift == 0 { digits.append(digit < 10 ? 48 + digit : 87 + digit) }
        }
        return Text(digits)
    }
}
