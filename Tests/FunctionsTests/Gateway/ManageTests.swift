import Foundation
import Synchronization
import Testing

@testable import Functions

/// Functions created, changed, listed and removed over HTTP; and what stays of them.
@Suite(.timeLimit(.minutes(10))) struct ManageTests {
    @Test func aFunctionsLife() async throws {
        try await GatewayFixture.run { fixture in
            let created = try await fixture.create("f")
            #expect(created.status == 201 && created.json["State"] as? String == "Pending")
            #expect(try await fixture.create("f").type == "ResourceConflictException")
            let got = try await fixture.send("GET", "/2015-03-31/functions/f").json
            let configuration = try #require(got["Configuration"] as? [String: Any])
            #expect(configuration["State"] as? String == "Active")
            #expect(configuration["CodeSha256"] as? String == Data(SHA256.digest(of: ZipMaker.code("x = 1"))).base64EncodedString())
            let code = Data(ZipMaker.code("x = 2")).base64EncodedString()
            let updated = try await fixture.send("PUT", "/2015-03-31/functions/f/code", body: #"{"ZipFile":"\#(code)"}"#)
            #expect(updated.json["LastUpdateStatus"] as? String == "InProgress")
            try await fixture.settle("f")
            _ = try await fixture.send("PUT", "/2015-03-31/functions/f/configuration", body: #"{"Timeout":9,"MemorySize":256}"#)
            try await fixture.settle("f")
            let plan = try #require(fixture.builder.plans.withLock { $0.last })
            #expect(plan.function.timeoutSeconds == 9 && plan.function.memoryBytes == 256 << 20 && plan.handler == "app.handler")
            #expect(
                try await fixture.send("GET", "/aurora/functions/f/code").body == String(decoding: ZipMaker.code("x = 2"), as: UTF8.self))
            #expect(try await fixture.invoke().status == 200)
            #expect(try await fixture.send("DELETE", "/2015-03-31/functions/f").status == 204)
            #expect(try await fixture.invoke().status == 404)
            try await fixture.eventually { fixture.builder.removed.withLock { $0 == ["f"] } }
        }
    }

    /// What `aurora fn deploy` sends for a function that is there: one change, built once.
    @Test func settingsMayComeWithTheCode() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create("f")
            let code = Data(ZipMaker.code("x = 2")).base64EncodedString()
            let body = #"{"ZipFile":"\#(code)","Timeout":9,"Environment":{"Variables":{"A":"b"}}}"#
            #expect(try await fixture.send("PUT", "/2015-03-31/functions/f/code", body: body).status == 200)
            try await fixture.settle("f")
            let plans = fixture.builder.plans.withLock { $0 }
            #expect(plans.count == 2)
            #expect(plans.last?.function.timeoutSeconds == 9 && plans.last?.environment == ["A": "b"])
            #expect(plans.last?.handler == "app.handler")
            #expect(
                try await fixture.send("GET", "/aurora/functions/f/code").body == String(decoding: ZipMaker.code("x = 2"), as: UTF8.self))
            let wrong = #"{"ZipFile":"\#(code)","Timeout":0}"#
            #expect(try await fixture.send("PUT", "/2015-03-31/functions/f/code", body: wrong).status == 400)
            #expect(fixture.builder.plans.withLock { $0.count } == 2)
        }
    }

    /// What was made for a function is removed when it changes or goes, and what an earlier gateway left when one starts.
    @Test func whatIsOfNoUseIsRemoved() async throws {
        try await GatewayFixture.run { fixture in
            func deployed() -> [String] { fixture.gateway.catalogue.all.compactMap(\.deployed).map { "\($0.name) \($0.revision)" } }
            func keepsWhatIsThere() async throws { try await fixture.eventually { fixture.source.kept.withLock { $0.last } == deployed() } }
            try await keepsWhatIsThere()
            #expect(fixture.source.kept.withLock { $0 } == [[]])
            try await fixture.create("f")
            try await fixture.create("g")
            try await keepsWhatIsThere()
            _ = try await fixture.send("PUT", "/2015-03-31/functions/f/configuration", body: #"{"Timeout":9}"#)
            try await fixture.settle("f")
            try await keepsWhatIsThere()
            _ = try await fixture.send("DELETE", "/2015-03-31/functions/g")
            try await keepsWhatIsThere()
            #expect(deployed().count == 1)
        }
    }

    private func beginSlow(_ fixture: GatewayFixture, _ name: String) async throws -> GatewayFixture.Answer {
        let zip = Data(ZipMaker.code("x = 1")).base64EncodedString()
        let settings = #""Runtime":"python3.11","Handler":"a.b","Role":"r","Environment":{"Variables":{"GATE":"1"}}"#
        return try await fixture.send(
            "POST", "/2015-03-31/functions", body: #"{"FunctionName":"\#(name)",\#(settings),"Code":{"ZipFile":"\#(zip)"}}"#)
    }

    /// Builds that take long, or hang, hold up nobody else's.
    @Test func aLongBuildDoesNotHoldUpOthers() async throws {
        try await GatewayFixture.run({ $0.builds.patienceMilliseconds = 20 }) { fixture in
            for name in ["slow1", "slow2"] { #expect(try await beginSlow(fixture, name).status == 201) }
            try await fixture.eventually { fixture.builder.atGateCount == 2 }
            // Both places are taken, until their patience is over.
            for name in ["f", "g", "h"] { #expect(try await fixture.create(name).status == 201) }
            #expect(fixture.gateway.catalogue["slow1"]?.updateStatus == .inProgress)
            let status = try JSONDecoder().decode(
                StatusReport.self, from: Data(try await fixture.send("GET", "/aurora/status").body.utf8))
            #expect(status.functions.first { $0.name == "slow1" }?.step?.words == "unpacking the code")
            try await fixture.eventually {
                try await fixture.send("GET", "/metrics").body.contains("aurora_builds{state=\"running\"} 2\n")
            }
            fixture.builder.openGate()
            for name in ["slow1", "slow2"] { try await fixture.settle(name) }
        }
    }

    /// A change that would have to wait behind too many others is refused before it is made.
    @Test func tooManyBuildsAreRefused() async throws {
        try await GatewayFixture.run({
            $0.builds.buildsMax = 1
            $0.builds.slowMax = 0
            $0.builds.waitingMax = 1
        }) { fixture in
            try await fixture.create("f")
            try await fixture.create("broken", code: "broken")
            #expect(try await beginSlow(fixture, "first").status == 201)
            try await fixture.eventually { fixture.builder.atGateCount == 1 }
            #expect(try await beginSlow(fixture, "second").status == 201)
            try await fixture.eventually { fixture.gateway.deployments.counts == (1, 1) }
            let refused = try await beginSlow(fixture, "third")
            #expect(refused.status == 429 && refused.type == "TooManyRequestsException" && refused.headers["retry-after"] == "1")
            #expect(refused.json["Reason"] as? String == "CallerRateLimitExceeded" && fixture.gateway.catalogue["third"] == nil)
            let update = try await fixture.send("PUT", "/2015-03-31/functions/f/configuration", body: #"{"Timeout":9}"#)
            #expect(update.status == 429 && fixture.gateway.catalogue["f"]?.settings.timeoutSeconds == 3)
            #expect(try await fixture.invoke("broken").status == 429, "another try of its initialization would wait as well")
            #expect(try await fixture.invoke("f").status == 200)
            for _ in 0..<2 {
                try await fixture.eventually { fixture.builder.atGateCount == 1 }
                fixture.builder.openGate()
            }
            for name in ["first", "second"] { try await fixture.settle(name) }
            // A change that is refused for another reason keeps no place.
            for _ in 0..<3 {
                #expect(try await fixture.send("PUT", "/2015-03-31/functions/f/configuration", body: #"{"Timeout":9999}"#).status == 400)
            }
            #expect(try await beginSlow(fixture, "third").status == 201)
            try await fixture.eventually { fixture.builder.atGateCount == 1 }
            fixture.builder.openGate()
            try await fixture.settle("third")
        }
    }

    @Test func aFailedBuildIsTold() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create("f", code: "broken")
            let got = try await fixture.send("GET", "/2015-03-31/functions/f/configuration").json
            #expect(got["State"] as? String == "Failed")
            #expect((got["StateReason"] as? String)?.contains("Unable to import module 'app'") == true)
            #expect(try await fixture.invoke().headers["x-amz-function-error"] == "Unhandled")
            // The one before serves while a change cannot be built.
            try await fixture.create("g")
            let code = Data(ZipMaker.code("broken")).base64EncodedString()
            _ = try await fixture.send("PUT", "/2015-03-31/functions/g/code", body: #"{"ZipFile":"\#(code)"}"#)
            try await fixture.settle("g")
            let changed = try await fixture.send("GET", "/2015-03-31/functions/g/configuration").json
            #expect(changed["State"] as? String == "Active" && changed["LastUpdateStatus"] as? String == "Failed")
            #expect(try await fixture.invoke("g").status == 200)
        }
    }

    /// A change that waits for the disk does not hold up requests.
    @Test func requestsDoNotWaitForTheDisk() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            // The file that the record is written to before it is renamed: opening this one waits for a reader.
            let pipe = "\(fixture.directory)/functions/f/function.json.new"
            #expect(mkfifo(pipe, 0o600) == 0)
            async let change = fixture.send("PUT", "/2017-10-31/functions/f/concurrency", body: #"{"ReservedConcurrentExecutions":2}"#)
            for number in 0..<20 { #expect(try await fixture.invoke("f", "\(number)").status == 200) }
            let reader = open(pipe, O_RDONLY | O_NONBLOCK)
            _ = try await change
            close(reader)
        }
    }

    @Test func listsPageByPage() async throws {
        try await GatewayFixture.run { fixture in
            for index in 0..<7 { try await fixture.create("f\(index)") }
            var names: [String] = []
            var marker = ""
            repeat {
                let page = try await fixture.send("GET", "/2015-03-31/functions/?MaxItems=3&Marker=\(marker)").json
                names += (page["Functions"] as? [[String: Any]] ?? []).compactMap { $0["FunctionName"] as? String }
                marker = PercentEncoding.encode(page["NextMarker"] as? String ?? "")
            } while !marker.isEmpty
            #expect(names == (0..<7).map { "f\($0)" })
            #expect(try await fixture.send("GET", "/2015-03-31/functions?MaxItems=0").status == 400)
        }
    }

    @Test(arguments: [
        "", "{", "[]", "null", #"{"FunctionName":"f"}"#, #"{"FunctionName":"f","Code":{}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Code":{"ZipFile":"!!"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Code":{"ZipFile":"AAAA"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Code":{"ZipFile":"UEsDBA=="}}"#,
        #"{"FunctionName":"../f","Runtime":"python3","Handler":"a.b","Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"cobol","Handler":"a.b","Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Timeout":901,"Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Timeout":1e99,"Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","MemorySize":-1,"Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Environment":{"Variables":{"A=B":"c"}},"Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Layers":["x"],"Code":{"ZipFile":"ZIP"}}"#,
        #"{"FunctionName":"f","Runtime":"python3","Handler":"a.b","Code":{"S3Bucket":"b"}}"#,
    ])
    func refusesWhatIsNoFunction(_ body: String) async throws {
        try await GatewayFixture.run { fixture in
            let zip = Data(ZipMaker.code("x = 1")).base64EncodedString()
            let body = body.replacingOccurrences(of: "\"ZIP\"", with: "\"\(zip)\"")
            let answer = try await fixture.send("POST", "/2015-03-31/functions", body: body)
            #expect(answer.status == 400)
            #expect(answer.type == "InvalidParameterValueException" || answer.type == "InvalidRequestContentException")
            #expect(fixture.gateway.catalogue.all.isEmpty)
        }
    }

    @Test func functionsAndTheirStateSurvive() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "aurora-catalogue-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let first = try await GatewayFixture(directory: directory)
        try await first.create("f")
        try await first.create("g")
        let other = try? Catalogue(path: "\(directory)/functions")
        #expect(other == nil, "one process holds it")
        await first.gateway.stop()
        // As a SIGKILL in the middle of a creation, of a change and of a build leaves them.
        let functions = "\(directory)/functions"
        try FileManager.default.createDirectory(atPath: "\(functions)/.new-x", withIntermediateDirectories: true)
        try Data("half".utf8).write(to: URL(filePath: "\(functions)/f/function.json.new"))
        try Data("old".utf8).write(to: URL(filePath: "\(functions)/f/code-old.zip"))
        let record = "\(functions)/g/function.json"
        let text = try String(contentsOfFile: record, encoding: .utf8)
        try text.replacingOccurrences(of: "Successful", with: "InProgress").write(toFile: record, atomically: true, encoding: .utf8)
        try FileManager.default.createDirectory(atPath: "\(functions)/h", withIntermediateDirectories: true)
        try Data("{".utf8).write(to: URL(filePath: "\(functions)/h/function.json"))

        let second = try await GatewayFixture(directory: directory)
        try await second.settle("g")
        #expect(second.builder.plans.withLock { $0.map(\.function.name) } == ["g"], "what was not built is built")
        #expect(second.gateway.catalogue.damaged.keys.sorted() == ["h"])
        #expect(try await second.invoke("f").status == 200)
        #expect(try await second.invoke("g").status == 200)
        let left = try FileManager.default.subpathsOfDirectory(atPath: functions).filter { $0.contains("new") || $0.contains("old") }
        #expect(left.isEmpty)
        await second.gateway.stop()
    }

    @Test(arguments: 0..<4) func noRecordIsTakenOnTrust(_ round: Int) throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = Splitmix(state: seed)
        let record = FunctionRecord(
            name: "f", settings: FunctionSettings(runtime: "python3", handler: "a.b"), codeDigest: "", codeFile: "code-1.zip", codeBytes: 4,
            revision: "r", modifiedAt: "", state: .active, updateStatus: .successful)
        let bytes = [UInt8](try JSONEncoder().encode(record))
        let read = try Catalogue.decode(bytes, name: "f").get()
        #expect(read == record)
        for _ in 0..<400 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...5, using: &generator) {
                damaged[Int.random(in: 0..<damaged.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            if case .success(let read) = Catalogue.decode(damaged, name: "f") {
                #expect(read.name == "f" && !read.codeFile.contains("/"), "seed \(seed)")
            }
        }
    }

    @Test func digestsAreThoseOfTheStandard() {
        func hex(_ text: String) -> String { SHA256.digest(of: Array(text.utf8)).map { String(format: "%02x", $0) }.joined() }
        #expect(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(hex(String(repeating: "a", count: 1_000_000)) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }
}
