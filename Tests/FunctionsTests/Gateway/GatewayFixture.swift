import Foundation
import Logging
import Testing

@testable import Functions

/// A gateway on a port of its own with pretended instances, and a client.
final class GatewayFixture: Sendable {
    let directory: String
    let source: PretendedSource
    let builder: PretendedBuilder
    let gateway: Gateway

    init(
        source: PretendedSource = PretendedSource(), builder: PretendedBuilder = PretendedBuilder(), directory: String? = nil,
        token: String? = nil, _ change: (inout GatewayConfiguration) -> Void = { _ in }
    ) async throws {
        self.directory = directory ?? FileManager.default.temporaryDirectory.appending(path: "aurora-gateway-\(UUID().uuidString)").path
        self.source = source
        self.builder = builder
        var configuration = GatewayConfiguration(port: 0, token: token, path: "\(self.directory)/functions")
        configuration.limits.drainSeconds = 2
        configuration.events.retryMilliseconds = 20
        change(&configuration)
        gateway = try Gateway(
            configuration, source: source, builder: builder, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await gateway.start()
    }

    /// Runs a test with a gateway that is ended afterwards, whatever happens; no instance may be left then.
    static func run(
        source: PretendedSource = PretendedSource(), builder: PretendedBuilder = PretendedBuilder(), token: String? = nil,
        _ change: (inout GatewayConfiguration) -> Void = { _ in }, _ body: (GatewayFixture) async throws -> Void
    ) async throws {
        let fixture = try await GatewayFixture(source: source, builder: builder, token: token, change)
        defer { try? FileManager.default.removeItem(atPath: fixture.directory) }
        do {
            try await body(fixture)
        } catch {
            await fixture.gateway.stop()
            throw error
        }
        await fixture.gateway.stop()
        #expect(source.alive == 0, "instances are left")
    }

    struct Answer {
        var status: Int
        var headers: [String: String]
        var body: String
        var json: [String: Any] { (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:] }
        var type: String? { headers["x-amzn-errortype"] }
    }

    /// Sends one request on a connection of its own.
    func send(_ method: String, _ path: String, headers: [String: String] = [:], body: String = "") async throws -> Answer {
        var head = "\(method) \(path) HTTP/1.1\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n"
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        if headers["Host"] == nil { head += "Host: 127.0.0.1:\(gateway.port)\r\n" }
        let bytes = try await RawConnection.exchange(Array("\(head)\r\n\(body)".utf8), port: gateway.port)
        return try #require(GatewayFixture.parse(bytes), "no answer to \(method) \(path)")
    }

    static func parse(_ bytes: [UInt8]) -> Answer? {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n") else { return nil }
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
        let status = lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces) }
        }
        return status.map { Answer(status: $0, headers: headers, body: String(text[end.upperBound...])) }
    }

    /// Creates a function and waits until it is active.
    @discardableResult
    func create(_ name: String = "f", timeout: Int = 3, code: String = "x = 1") async throws -> Answer {
        let zip = Data(ZipMaker.code(code)).base64EncodedString()
        let settings = #""Runtime":"python3.11","Handler":"app.handler","Role":"r","Timeout":\#(timeout)"#
        let body = #"{"FunctionName":"\#(name)",\#(settings),"Code":{"ZipFile":"\#(zip)"}}"#
        let answer = try await send("POST", "/2015-03-31/functions", body: body)
        if answer.status == 201 { try await settle(name) }
        return answer
    }

    /// Waits until a function's build ended.
    func settle(_ name: String) async throws {
        try await eventually { self.gateway.catalogue[name]?.updateStatus != .inProgress }
    }

    /// Invokes a function.
    func invoke(_ name: String = "f", _ payload: String = "{}", headers: [String: String] = [:]) async throws -> Answer {
        try await send("POST", "/2015-03-31/functions/\(name)/invocations", headers: headers, body: payload)
    }

    /// Waits for something that happens soon; the suite's time limit ends what never does.
    func eventually(_ condition: () async throws -> Bool) async throws {
        while try await !condition() { try await Task.sleep(for: .milliseconds(5)) }
    }
}
