/// An asynchronous invocation that was acknowledged.
struct StoredEvent: Hashable, Sendable {
    /// The request's id.
    var identifier: String
    var function: String
    var payload: [UInt8]
    var clientContext: String?
    /// When it was acknowledged, milliseconds since 1970.
    var receivedAt: Int64
    /// Times the function was run for it and failed.
    var attempts = 0
    /// When it is tried next, milliseconds since 1970.
    var nextAt: Int64
    /// Why the last attempt failed.
    var failure: String?
    /// When it was given up, milliseconds since 1970; nil: it still is to be delivered.
    var deadAt: Int64?
    /// Whose request it is; nil: the function has no tenants.
    var tenant: String?
    /// The request that failed, whose record this is for the target of its function's dead letters; nil: it is no such record.
    var origin: String?
}

/// One entry of the event log.
enum EventRecord: Hashable, Sendable {
    /// An event as it is now; replaces what was known of it.
    case event(StoredEvent)
    /// An event is over, or a dead letter was taken away.
    case done(String)
}

/// The bytes of entries (`docs/design/gateway.md`): length, checksum, body, each number little-endian.
enum EventCodec {
    /// The most bytes of one entry's body.
    static let bodyBytesMax = 8 << 20
    /// The most bytes of any text but the payload.
    static let textBytesMax = 64 << 10
    private static let headBytes = 8

    /// An entry's bytes.
    static func encode(_ record: EventRecord) -> [UInt8] {
        var body: [UInt8] = []
        switch record {
        case .event(let event):
            body.reserveCapacity(event.payload.count + 256)
            body.append(1)
            for text in [event.identifier, event.function] { append(Array(text.utf8), to: &body) }
            append(event.payload, to: &body)
            append(event.clientContext, to: &body)
            for number in [event.receivedAt, Int64(event.attempts), event.nextAt] { append(number, to: &body) }
            append(event.failure, to: &body)
            append(event.deadAt ?? -1, to: &body)
            if event.tenant != nil || event.origin != nil { append(event.tenant, to: &body) }
            if event.origin != nil { append(event.origin, to: &body) }
        case .done(let identifier):
            body.append(2)
            append(Array(identifier.utf8), to: &body)
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(body.count + headBytes)
        append(UInt32(truncatingIfNeeded: body.count), to: &bytes)
        append(CRC32C.checksum(body), to: &bytes)
        return bytes + body
    }

    /// Reads the entry that begins at a place.
    ///
    /// - Returns: the entry and where the next begins; nil when there is no whole, right entry.
    static func decode(_ bytes: ArraySlice<UInt8>) -> (record: EventRecord, end: Int)? {
        var head = Reader(bytes)
        guard let length = head.number(UInt32.self), let checksum = head.number(UInt32.self), length <= bodyBytesMax,
            let body = head.take(Int(length)), CRC32C.checksum(body) == checksum, let record = record(body)
        else { return nil }
        return (record, head.rest.startIndex)
    }

    private static func record(_ body: ArraySlice<UInt8>) -> EventRecord? {
        var reader = Reader(body)
        guard let kind = reader.number(UInt8.self), let identifier = reader.text() else { return nil }
        if kind == 2 { return reader.rest.isEmpty ? .done(identifier) : nil }
        guard kind == 1, let function = reader.text(), let payload = reader.bytes(max: bodyBytesMax),
            let context = reader.optionalText(), let received = reader.number(Int64.self),
            let attempts = reader.number(Int64.self), let next = reader.number(Int64.self), let failure = reader.optionalText(),
            let dead = reader.number(Int64.self), let tenant = reader.lastText(), let origin = reader.lastText(),
            reader.rest.isEmpty, received >= 0, (0...1_000_000).contains(attempts), next >= 0
        else { return nil }
        return .event(
            StoredEvent(
                identifier: identifier, function: function, payload: Array(payload), clientContext: context.value, receivedAt: received,
                attempts: Int(attempts), nextAt: next, failure: failure.value, deadAt: dead < 0 ? nil : dead,
                tenant: tenant.value, origin: origin.value))
    }

    private static func append(_ number: some FixedWidthInteger, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private static func append(_ value: [UInt8], to bytes: inout [UInt8]) {
        append(UInt32(truncatingIfNeeded: value.count), to: &bytes)
        bytes += value
    }

    private static func append(_ text: String?, to bytes: inout [UInt8]) {
        bytes.append(text == nil ? 0 : 1)
        if let text { append(Array(text.utf8.prefix(textBytesMax)), to: &bytes) }
    }

    private struct Reader {
        var rest: ArraySlice<UInt8>

        init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

        mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
            guard count <= rest.count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count)
        }

        mutating func number<Number: FixedWidthInteger>(_ type: Number.Type) -> Number? {
            take(MemoryLayout<Number>.size)?.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(as: Number.self)) }
        }

        mutating func bytes(max: Int) -> ArraySlice<UInt8>? {
            guard let count = number(UInt32.self), count <= max else { return nil }
            return take(Int(count))
        }

        mutating func text() -> String? {
            bytes(max: textBytesMax).flatMap { String(validating: $0, as: UTF8.self) }
        }

        /// A text that earlier versions did not write.
        mutating func lastText() -> (value: String?, Void)? {
            if rest.isEmpty { return (nil, ()) }
            return optionalText()
        }

        mutating func optionalText() -> (value: String?, Void)? {
            guard let isThere = number(UInt8.self), isThere <= 1 else { return nil }
            if isThere == 0 { return (nil, ()) }
            guard let bytes = bytes(max: textBytesMax) else { return nil }
            return (String(decoding: bytes, as: UTF8.self), ())
        }
    }
}
