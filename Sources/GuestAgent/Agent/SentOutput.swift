import CAgent

/// The last output of a session that was sent, to be sent again to a host that went on from a checkpoint.
///
/// When a checkpoint is taken, output may be on its way: in this agent's queue, in the socket, in the device. The connection does not
/// survive a restore, so it is kept here until it cannot be on its way any more.
struct SentOutput {
    /// More than can be on its way: the queue of a connection, the windows of the sockets, and the host's buffers.
    private static let bytesMax = 1_048_576

    private struct Piece {
        let type: MessageType
        let bytes: [UInt8]
    }
    private var pieces: [Piece] = []
    private var head = 0
    private var keptBytes = 0
    /// All bytes ever sent.
    private var total: UInt64 = 0

    /// Remembers what is sent now.
    mutating func append(_ type: MessageType, _ chunk: UnsafeRawBufferPointer) {
        total &+= UInt64(chunk.count)
        keptBytes += chunk.count
        pieces.append(Piece(type: type, bytes: [UInt8](chunk)))
        while keptBytes > SentOutput.bytesMax, head < pieces.count {
            keptBytes -= pieces[head].bytes.count
            head += 1
        }
        if head > 64, head > pieces.count / 2 {
            pieces.removeFirst(head)
            head = 0
        }
    }

    /// Gives all that was sent after the first `received` bytes, as far as it is still here, and forgets nothing.
    func replay(from received: UInt64, _ send: (MessageType, UnsafeRawBufferPointer) -> Void) {
        var offset = total &- UInt64(keptBytes)
        var index = head
        while index < pieces.count {
            let piece = pieces[index]
            let end = offset &+ UInt64(piece.bytes.count)
            if end > received {
                let skipped = received > offset ? Int(received - offset) : 0
                piece.bytes.withUnsafeBytes { send(piece.type, UnsafeRawBufferPointer(rebasing: $0[skipped...])) }
            }
            offset = end
            index += 1
        }
    }
}
