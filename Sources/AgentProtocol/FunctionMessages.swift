/// The version of the function protocol (the agent's second port) that this source speaks.
public let functionProtocolVersion: UInt16 = 1

/// The limits of functions, in the guest and on the host.
public enum FunctionLimits {
    /// The vsock port on which the agent serves one function's host.
    public static let vsockPort: UInt32 = 1025
    /// The TCP port of the Lambda runtime API on the guest's 127.0.0.1.
    public static let runtimePort: UInt16 = 9001
    /// The most bytes of an event and of an answer (Lambda's limit of a synchronous invocation).
    public static let payloadBytesMax = 6_291_556
    /// The most bytes of a message without its payload: environment, headers.
    public static let messageBytesMax = AgentLimits.requestBytesMax
    /// The most processes and threads of a function unless a deployment says otherwise (Lambda's limit).
    public static let processesMax: UInt32 = 1_024
}

/// `functionAttach`: the first message of a connection; the agent answers with `functionState`.
///
/// The agent serves one connection: a newer one takes the place of an older one.
public struct FunctionAttach: MessageBody, Equatable, Sendable {
    /// The version the host speaks; the agent closes the connection of any other.
    public var version: UInt16

    /// Asks for this source's version.
    public init(version: UInt16 = functionProtocolVersion) { self.version = version }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(version) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) { version = try reader.read() }
}

/// `functionStart`: start the runtime process, or tell one that is warm which function it is.
public struct FunctionStart: MessageBody, Equatable, Sendable {
    /// The program and its arguments; the first is looked up in `PATH` when it has no slash.
    public var arguments: [Text]
    /// `NAME=value` entries; the agent adds `AWS_LAMBDA_RUNTIME_API`, and `PATH` and `HOME` when absent.
    ///
    /// Whether the runtime stops at `restore/next` is decided by `AWS_LAMBDA_INITIALIZATION_TYPE`: `snap-start` or `on-demand`.
    public var environment: [Text]
    /// The working directory; empty means `/`.
    public var directory: Text
    /// `user[:group]` by name or number; empty means root.
    public var user: Text
    /// The most processes and threads it may have at once; 0: no limit.
    public var processesMax: UInt32

    /// Describes a runtime to start.
    public init(
        arguments: [Text], environment: [Text] = [], directory: Text = Text(), user: Text = Text(),
        processesMax: UInt32 = FunctionLimits.processesMax
    ) {
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.user = user
        self.processesMax = processesMax
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(processesMax)
        writer.write(directory)
        writer.write(user)
        writer.write(arguments) { $0.write($1) }
        writer.write(environment) { $0.write($1) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        processesMax = try reader.read()
        directory = try reader.readText()
        user = try reader.readText()
        arguments = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        environment = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        guard let program = arguments.first, !program.isEmpty else { throw ProtocolFault(.badValue, at: reader.offset) }
        // A zero byte would silently end an argument early.
        for text in arguments where text.bytes.contains(0) { throw ProtocolFault(.badValue, at: reader.offset) }
        for text in environment where text.bytes.contains(0) { throw ProtocolFault(.badValue, at: reader.offset) }
        guard !directory.bytes.contains(0), !user.bytes.contains(0) else { throw ProtocolFault(.badValue, at: reader.offset) }
    }
}

/// `functionRestored`: the machine was restored; what must differ is set before the runtime goes on.
public struct FunctionRestored: MessageBody, Equatable, Sendable {
    /// The most bytes of entropy.
    public static let entropyBytesMax = ReseedRequest.entropyBytesMax

    /// Wall-clock time in nanoseconds since 1970; zero to keep the clock.
    public var wallClockNanoseconds: UInt64
    /// Random bytes for the guest's generator; empty to leave it.
    public var entropy: Text
    /// The guest's new host name; empty to keep it.
    public var hostname: Text

    /// Describes what differs.
    public init(wallClockNanoseconds: UInt64 = 0, entropy: [UInt8] = [], hostname: Text = Text()) {
        self.wallClockNanoseconds = wallClockNanoseconds
        self.entropy = Text(entropy)
        self.hostname = hostname
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(wallClockNanoseconds)
        writer.write(entropy)
        writer.write(hostname)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        wallClockNanoseconds = try reader.read()
        let start = reader.offset
        entropy = try reader.readText()
        guard entropy.bytes.count <= FunctionRestored.entropyBytesMax else { throw ProtocolFault(.tooLong, at: start) }
        hostname = try reader.readText()
        guard !hostname.bytes.contains(0), hostname.bytes.count <= 64 else { throw ProtocolFault(.badValue, at: start) }
    }
}

/// `functionInvoke`: one request; its event follows in `functionEvent` frames, `payloadBytes` in all.
public struct FunctionInvoke: MessageBody, Equatable, Sendable {
    /// The request's id (`Lambda-Runtime-Aws-Request-Id`).
    public var requestIdentifier: Text
    /// When the time is over, milliseconds since 1970 (`Lambda-Runtime-Deadline-Ms`).
    public var deadlineMilliseconds: Int64
    /// `Lambda-Runtime-Invoked-Function-Arn`.
    public var functionARN: Text
    /// `Lambda-Runtime-Trace-Id`; empty: none.
    public var traceIdentifier: Text
    /// `Lambda-Runtime-Client-Context`, JSON; empty: none.
    public var clientContext: Text
    /// `Lambda-Runtime-Cognito-Identity`, JSON; empty: none.
    public var cognitoIdentity: Text
    /// `Lambda-Runtime-Aws-Tenant-Id`; empty: none.
    public var tenantIdentifier: Text
    /// The length of the event in bytes.
    public var payloadBytes: UInt32

    /// Describes a request.
    public init(
        requestIdentifier: Text, deadlineMilliseconds: Int64, functionARN: Text, traceIdentifier: Text = Text(),
        clientContext: Text = Text(), cognitoIdentity: Text = Text(), tenantIdentifier: Text = Text(), payloadBytes: UInt32
    ) {
        self.requestIdentifier = requestIdentifier
        self.deadlineMilliseconds = deadlineMilliseconds
        self.functionARN = functionARN
        self.traceIdentifier = traceIdentifier
        self.clientContext = clientContext
        self.cognitoIdentity = cognitoIdentity
        self.tenantIdentifier = tenantIdentifier
        self.payloadBytes = payloadBytes
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(requestIdentifier)
        writer.write(deadlineMilliseconds)
        writer.write(functionARN)
        writer.write(traceIdentifier)
        writer.write(clientContext)
        writer.write(cognitoIdentity)
        writer.write(payloadBytes)
        // Agents in snapshots that were made before there were tenants read no such field.
        if !tenantIdentifier.isEmpty { writer.write(tenantIdentifier) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        requestIdentifier = try FunctionInvoke.readHeader(&reader)
        guard !requestIdentifier.isEmpty, !requestIdentifier.bytes.contains(UInt8(ascii: "/")) else {
            throw ProtocolFault(.badValue, at: 0)
        }
        deadlineMilliseconds = try reader.read()
        functionARN = try FunctionInvoke.readHeader(&reader)
        traceIdentifier = try FunctionInvoke.readHeader(&reader)
        clientContext = try FunctionInvoke.readHeader(&reader)
        cognitoIdentity = try FunctionInvoke.readHeader(&reader)
        payloadBytes = try reader.read()
        guard payloadBytes <= FunctionLimits.payloadBytesMax else { throw ProtocolFault(.tooLong, at: reader.offset - 4) }
        tenantIdentifier = reader.remaining == 0 ? Text() : try FunctionInvoke.readHeader(&reader)
    }

    /// Reads a text that becomes the value of an HTTP header: a line break in it would make another header.
    private static func readHeader(_ reader: inout ByteReader) throws(ProtocolFault) -> Text {
        let start = reader.offset
        let text = try reader.readText()
        for byte in text.bytes where byte < 0x20 && byte != 0x09 || byte == 0x7F { throw ProtocolFault(.badValue, at: start) }
        return text
    }
}

/// Where a function's runtime stands.
public enum FunctionPhase: UInt8, Sendable {
    /// No runtime was started.
    case idle = 0
    /// The runtime started and has not asked for anything yet.
    case initializing = 1
    /// The runtime waits at `restore/next`: the moment for a snapshot.
    case restoreNext = 2
    /// `restore/next` was answered; the runtime runs its hooks.
    case restoring = 3
    /// The runtime waits at `invocation/next`.
    case invocationNext = 4
    /// The runtime works on a request.
    case serving = 5
    /// The runtime ended.
    case ended = 6
    /// A runtime that is loaded, and waits to be told by `functionStart` which function it is.
    case warm = 7
}

/// `functionState`: where the runtime stands.
///
/// Sent as the answer to `functionAttach` and `functionStart`, when the runtime is warm or comes to `restore/next`, and when it comes to
/// `invocation/next` for the first time after its start or its restore while no request waits for it.
public struct FunctionState: MessageBody, Equatable, Sendable {
    /// Where the runtime stands.
    public var phase: FunctionPhase

    /// Describes a state.
    public init(_ phase: FunctionPhase) { self.phase = phase }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(phase.rawValue) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) { phase = try reader.readCase() }
}

/// `functionAnswer`: what the runtime says; its text follows in `functionBody` frames up to `functionEnd`.
public struct FunctionAnswer: MessageBody, Equatable, Sendable {
    /// What kind of answer it is.
    public enum Kind: UInt8, Sendable {
        /// The function's result.
        case response = 0
        /// The function failed; the text is JSON (`errorMessage`, `errorType`, `stackTrace`).
        case error = 1
        /// The function could not be initialized; the text is JSON.
        case initializationError = 2
        /// A hook after the restore failed; the text is JSON.
        case restoreError = 3
    }

    /// What kind of answer it is.
    public var kind: Kind
    /// The request it answers; empty for errors that belong to none.
    public var requestIdentifier: Text
    /// `Content-Type`, as the runtime gave it.
    public var contentType: Text
    /// `Lambda-Runtime-Function-Error-Type`; empty: none.
    public var errorType: Text

    /// Describes an answer.
    public init(_ kind: Kind, requestIdentifier: Text = Text(), contentType: Text = Text(), errorType: Text = Text()) {
        self.kind = kind
        self.requestIdentifier = requestIdentifier
        self.contentType = contentType
        self.errorType = errorType
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(requestIdentifier)
        writer.write(contentType)
        writer.write(errorType)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        kind = try reader.readCase()
        requestIdentifier = try reader.readText()
        contentType = try reader.readText()
        errorType = try reader.readText()
    }
}

/// `functionEnd`: the answer is over.
public struct FunctionEnd: MessageBody, Equatable, Sendable {
    /// Whether the answer is whole.
    public enum Outcome: UInt8, Sendable {
        /// It is.
        case complete = 0
        /// It is longer than `FunctionLimits.payloadBytesMax`; the rest was dropped.
        case tooLarge = 1
        /// The runtime broke off, or did not send what it announced.
        case broken = 2
    }

    /// Whether the answer is whole.
    public var outcome: Outcome
    /// Nanoseconds from the moment the runtime got the request to the end of its answer; zero when there was none.
    public var durationNanoseconds: UInt64

    /// Describes the end of an answer.
    public init(_ outcome: Outcome, durationNanoseconds: UInt64 = 0) {
        self.outcome = outcome
        self.durationNanoseconds = durationNanoseconds
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(outcome.rawValue)
        writer.write(durationNanoseconds)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        outcome = try reader.readCase()
        durationNanoseconds = try reader.read()
    }
}

/// `functionMemory`: the memory that the runtime and all it started have used.
///
/// Sent before the `functionEnd` of an answer to a request, before `functionExited`, and as the answer to `functionMeasure`, unless the
/// guest's kernel cannot tell.
public struct FunctionMemory: MessageBody, Equatable, Sendable {
    /// The most bytes that the kernel has charged to the runtime's control group at once (`memory.peak`), what its snapshot brought
    /// included.
    public var peakBytes: UInt64

    /// Describes a measurement.
    public init(peakBytes: UInt64) { self.peakBytes = peakBytes }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(peakBytes) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) { peakBytes = try reader.read() }
}
