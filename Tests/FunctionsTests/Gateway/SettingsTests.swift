import Foundation
import Synchronization
import Testing

@testable import Functions

/// Settings as the clients' own model has them: honoured, or refused by name.
@Suite(.timeLimit(.minutes(10))) struct SettingsTests {
    private func body(_ settings: String, name: String = "f") -> String {
        let zip = Data(ZipMaker.code("x = 1")).base64EncodedString()
        let more = settings.isEmpty ? "" : ",\(settings)"
        return
            #"{"FunctionName":"\#(name)","Runtime":"python3.11","Handler":"a.b","Role":"r","Code":{"ZipFile":"\#(zip)"}\#(more)}"#
    }

    private func create(_ fixture: GatewayFixture, _ settings: String, name: String = "f") async throws -> GatewayFixture.Answer {
        let answer = try await fixture.send("POST", "/2015-03-31/functions", body: body(settings, name: name))
        if answer.status == 201 { try await fixture.settle(name) }
        return answer
    }

    @Test(arguments: [
        ("DurableConfig", #"{"ExecutionTimeout":60}"#),
        ("CapacityProviderConfig", #"{"LambdaManagedInstancesCapacityProviderConfig":{"a":"b"}}"#),
        ("PublishTo", #""LATEST_PUBLISHED""#), ("TracingConfig", #"{"Mode":"Active"}"#), ("VpcConfig", #"{"SubnetIds":["subnet-1"]}"#),
        ("Layers", #"["arn:aws:lambda:us-east-1:1:layer:l:1"]"#), ("FileSystemConfigs", #"[{"Arn":"a","LocalMountPath":"/mnt/a"}]"#),
        ("ImageConfig", #"{"Command":["a"]}"#), ("Publish", "true"), ("KMSKeyArn", #""arn:aws:kms:us-east-1:1:key/a""#),
        ("CodeSigningConfigArn", #""arn:a""#), ("Unheard", "1"),
    ])
    func whatIsNotHonouredIsRefusedByName(_ name: String, _ value: String) async throws {
        try await GatewayFixture.run { fixture in
            let refused = try await create(fixture, "\"\(name)\":\(value)")
            #expect(refused.status == 400 && refused.type == "InvalidParameterValueException")
            #expect((refused.json["Message"] as? String)?.hasPrefix("\(name) is not supported here") == true, "\(refused.body)")
            #expect(fixture.gateway.catalogue.all.isEmpty)
            try await fixture.create()
            let path = "/2015-03-31/functions/f"
            #expect(try await fixture.send("PUT", "\(path)/configuration", body: "{\"\(name)\":\(value)}").body.contains(name))
            let zip = Data(ZipMaker.code("x = 2")).base64EncodedString()
            let code = try await fixture.send("PUT", "\(path)/code", body: "{\"ZipFile\":\"\(zip)\",\"\(name)\":\(value)}")
            #expect(code.status == 400 && code.body.contains(name))
        }
    }

    @Test func deadLettersGoToAFunctionThatIsThere() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create("sink")
            func config(_ target: String) -> String { "\"DeadLetterConfig\":{\"TargetArn\":\"\(target)\"}" }
            for (target, words) in [
                ("arn:aws:sqs:us-east-1:1:q", "there are none of here"), ("arn:aws:sns:us-east-1:1:t", "there are none of here"),
                (FunctionName.resourceName("gone"), "no function gone"), (FunctionName.resourceName("f"), "the function itself"),
                ("arn:aws:lambda:local:000000000000:function:sink:7", "names no function"), ("arn:aws:s3:::b", "names no function"),
            ] {
                let refused = try await create(fixture, config(target))
                #expect(refused.status == 400 && refused.type == "InvalidParameterValueException", "\(refused.body)")
                #expect(refused.body.contains(words), "\(refused.body)")
            }
            let made = try await create(fixture, config(FunctionName.resourceName("sink")))
            let shown = made.json["DeadLetterConfig"] as? [String: String]
            #expect(shown == ["TargetArn": FunctionName.resourceName("sink")], "\(made.body)")
            let path = "/2015-03-31/functions/f/configuration"
            // Other changes leave it, an empty one takes it away.
            #expect(try await fixture.send("PUT", path, body: #"{"Timeout":9}"#).body.contains("DeadLetterConfig"))
            try await fixture.settle("f")
            #expect(try await fixture.send("PUT", path, body: "{\(config("arn:aws:sqs:us-east-1:1:q"))}").status == 400)
            #expect(try await fixture.send("PUT", path, body: "{\(config(""))}").status == 200)
            try await fixture.settle("f")
            #expect(try await fixture.send("GET", path).json["DeadLetterConfig"] == nil)
        }
    }

    @Test func whatIsTheDefaultIsTaken() async throws {
        try await GatewayFixture.run { fixture in
            let harmless =
                #""TracingConfig":{"Mode":"PassThrough"},"#
                + #""VpcConfig":{"SubnetIds":[],"SecurityGroupIds":[],"Ipv6AllowedForDualStack":false},"#
                + #""Layers":[],"FileSystemConfigs":[],"Publish":false,"KMSKeyArn":"","#
                + #""DeadLetterConfig":{},"ImageConfig":{},"PackageType":"Zip","#
                + #""Architectures":["x86_64"],"EphemeralStorage":{"Size":512},"LoggingConfig":{"LogFormat":"Text"}"#
            let made = try await create(fixture, harmless)
            #expect(made.status == 201, "\(made.body)")
        }
    }

    @Test func tenantsAreKeptApart() async throws {
        try await GatewayFixture.run { fixture in
            let made = try await create(fixture, #""TenancyConfig":{"TenantIsolationMode":"PER_TENANT"}"#)
            #expect((made.json["TenancyConfig"] as? [String: String]) == ["TenantIsolationMode": "PER_TENANT"])
            let none = try await fixture.invoke()
            #expect(none.status == 400 && none.type == "InvalidParameterValueException" && none.body.contains("add a valid tenant ID"))
            for tenant in ["alice", "bob", "alice", "bob"] {
                #expect(try await fixture.invoke("f", "1", headers: ["X-Amz-Tenant-Id": tenant]).status == 200)
            }
            #expect(fixture.source.started == 2, "each has an instance of its own, used again")
            #expect(fixture.source.requests.map(\.tenant) == ["alice", "bob", "alice", "bob"])
            #expect(try await fixture.invoke("f", "1", headers: ["X-Amz-Tenant-Id": "a\"b"]).status == 400)
            let event = ["X-Amz-Tenant-Id": "carol", "X-Amz-Invocation-Type": "Event"]
            #expect(try await fixture.invoke("f", "1", headers: event).status == 202)
            try await fixture.eventually { fixture.source.requests.last?.tenant == "carol" }
            // Where requests share instances, a tenant would not be kept apart.
            try await fixture.create("shared")
            let refused = try await fixture.invoke("shared", "1", headers: ["X-Amz-Tenant-Id": "alice"])
            #expect(refused.status == 400 && refused.body.contains("no TenancyConfig"))
            let durable = try await fixture.invoke("shared", "1", headers: ["X-Amz-Durable-Execution-Name": "x"])
            #expect(durable.status == 400 && durable.body.contains("no DurableConfig"))
        }
    }

    @Test func eventsRememberTheirTenant() throws {
        var event = StoredEvent(identifier: "i", function: "f", payload: [1], receivedAt: 5, nextAt: 6)
        #expect(EventCodec.decode(EventCodec.encode(.event(event))[...])?.record == .event(event))
        event.tenant = "alice"
        #expect(EventCodec.decode(EventCodec.encode(.event(event))[...])?.record == .event(event))
        event.origin = "r-1"
        #expect(EventCodec.decode(EventCodec.encode(.event(event))[...])?.record == .event(event))
        event.tenant = nil
        #expect(EventCodec.decode(EventCodec.encode(.event(event))[...])?.record == .event(event))
    }

    @Test func tagsAreKept() async throws {
        try await GatewayFixture.run { fixture in
            _ = try await create(fixture, #""Tags":{"a":"1","b":"2"}"#)
            let path = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Alocal%3A000000000000%3Afunction%3Af"
            func tags() async throws -> [String: String]? { try await fixture.send("GET", path).json["Tags"] as? [String: String] }
            #expect(try await tags() == ["a": "1", "b": "2"])
            #expect(try await fixture.send("POST", path, body: #"{"Tags":{"b":"3","c":"4"}}"#).status == 204)
            #expect(try await fixture.send("DELETE", "\(path)?tagKeys=a&tagKeys=c").status == 204)
            #expect(try await tags() == ["b": "3"])
            let function = try await fixture.send("GET", "/2015-03-31/functions/f").json
            #expect(function["Tags"] as? [String: String] == ["b": "3"])
            #expect(fixture.builder.plans.withLock { $0.count } == 1, "no build is needed")
            let many = (0...50).map { "\"k\($0)\":\"\"" }.joined(separator: ",")
            #expect(try await fixture.send("POST", path, body: "{\"Tags\":{\(many)}}").status == 400)
            #expect(try await fixture.send("GET", "\(path.dropLast())g").status == 404)
        }
    }

    @Test func logsAreJSONWhereThatIsWanted() async throws {
        try await GatewayFixture.run { fixture in
            let config = #""LoggingConfig":{"LogFormat":"JSON","ApplicationLogLevel":"DEBUG","LogGroup":"/my/group"}"#
            let made = try await create(fixture, config)
            #expect((made.json["LoggingConfig"] as? [String: String])?["ApplicationLogLevel"] == "DEBUG", "\(made.body)")
            let plan = try #require(fixture.builder.plans.withLock { $0.first })
            #expect(plan.reserved?["AWS_LAMBDA_LOG_FORMAT"] == "JSON" && plan.reserved?["AWS_LAMBDA_LOG_LEVEL"] == "DEBUG")
            #expect(plan.reserved?["AWS_LAMBDA_LOG_GROUP_NAME"] == "/my/group")
            #expect(plan.reserved?["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11")
            let answer = try await fixture.invoke("f", "1", headers: ["X-Amz-Log-Type": "Tail"])
            let tail = String(decoding: Data(base64Encoded: answer.headers["x-amz-log-result"] ?? "") ?? Data(), as: UTF8.self)
            let lines = tail.split(separator: "\n").map { try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] }
            #expect(
                lines.count == 3 && lines[0]?["type"] as? String == "platform.start" && lines[2]?["type"] as? String == "platform.report",
                "\(tail)")
            #expect(tail.contains("\nhello\n"))
            let wrong = try await create(fixture, #""LoggingConfig":{"LogFormat":"Text","ApplicationLogLevel":"DEBUG"}"#, name: "g")
            #expect(wrong.status == 400 && wrong.body.contains("LogFormat JSON"))
            try await fixture.create("plain")
            #expect(fixture.builder.plans.withLock { $0.last?.reserved?["AWS_LAMBDA_LOG_FORMAT"] } == nil)
        }
    }

    @Test func memoryGoesByTheMiB() async throws {
        try await GatewayFixture.run { fixture in
            for (name, size) in [("a", 129), ("b", 1769)] {
                #expect(try await create(fixture, "\"MemorySize\":\(size)", name: name).status == 201)
                let function = try #require(fixture.gateway.catalogue[name]?.deployed)
                #expect(function.memoryBytes == size << 20 && function.machineBytes == (size + 1) << 20)
                #expect(function.runtimeStreamName == "runtime/python3-\(size + 1)")
            }
            #expect(try await create(fixture, #""EphemeralStorage":{"Size":1024}"#, name: "c").status == 201)
            #expect(fixture.gateway.catalogue["c"]?.deployed?.scratchMiB == 1024)
            let refused = try await create(fixture, #""EphemeralStorage":{"Size":10240}"#, name: "d")
            #expect(refused.status == 400 && refused.body.contains("at most 3072"))
        }
    }

    @Test(arguments: ["python3.12", "python3.13", "nodejs22.x"]) func otherRuntimesAreRefused(_ runtime: String) async throws {
        try await GatewayFixture.run { fixture in
            let wanted = body("").replacingOccurrences(of: "python3.11", with: runtime)
            let refused = try await fixture.send("POST", "/2015-03-31/functions", body: wanted)
            #expect(refused.status == 400 && refused.body.contains("python3.11"), "\(refused.body)")
            let own = wanted.replacingOccurrences(of: "\"Role\"", with: "\"AuroraImage\":\"mine\",\"Role\"")
            #expect(try await fixture.send("POST", "/2015-03-31/functions", body: own).status == (runtime.hasPrefix("python") ? 201 : 400))
        }
    }

    /// A change that could not be built shows what serves, and the next change begins there.
    @Test func aFailedChangeIsTakenBack() async throws {
        try await GatewayFixture.run { fixture in
            _ = try await create(fixture, #""MemorySize":256,"Tags":{"a":"1"}"#)
            let zip = Data(ZipMaker.code("broken")).base64EncodedString()
            let before = try await fixture.send("GET", "/2015-03-31/functions/f/configuration").json
            _ = try await fixture.send(
                "PUT", "/2015-03-31/functions/f/code",
                body: #"{"ZipFile":"\#(zip)","MemorySize":512,"Environment":{"Variables":{"A":"b"}}}"#)
            try await fixture.settle("f")
            let after = try await fixture.send("GET", "/2015-03-31/functions/f/configuration").json
            #expect(after["LastUpdateStatus"] as? String == "Failed" && after["State"] as? String == "Active")
            for key in ["MemorySize", "CodeSha256", "CodeSize", "Environment"] {
                #expect("\(after[key] ?? "")" == "\(before[key] ?? "")", "\(key)")
            }
            #expect(
                try await fixture.send("GET", "/aurora/functions/f/code").body == String(decoding: ZipMaker.code("x = 1"), as: UTF8.self))
            #expect(try await fixture.send("PUT", "/2015-03-31/functions/f/configuration", body: #"{"Timeout":9}"#).status == 200)
            try await fixture.settle("f")
            #expect(fixture.gateway.catalogue["f"]?.updateStatus == .successful)
            let files = try FileManager.default.contentsOfDirectory(atPath: "\(fixture.directory)/functions/f")
            #expect(files.count { $0.hasPrefix("code-") } == 1, "\(files)")
        }
    }

    /// A function whose initialization failed is tried again by the next request, which is answered as Lambda answers it.
    @Test func aFailedInitializationIsTriedAgain() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create("f", code: "broken")
            let failed = try await fixture.invoke()
            #expect(failed.status == 200 && failed.headers["x-amz-function-error"] == "Unhandled", "\(failed.body)")
            #expect(failed.body.contains("Unable to import module"))
            #expect(fixture.builder.plans.withLock { $0.count } == 2)
            fixture.builder.isMended.store(true, ordering: .relaxed)
            #expect(try await fixture.invoke("f", "7").body == "7")
            #expect(try await fixture.invoke("f", "8").body == "8")
            #expect(fixture.builder.plans.withLock { $0.count } == 3)
        }
    }

    @Test func anAfterRestoreHookThatFailsIsTheFunctionsFailure() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", "\"hook\"")
            #expect(answer.status == 400 && answer.type == "SnapStartException", "\(answer.body)")
            #expect((answer.json["Message"] as? String)?.hasPrefix("The afterRestore() runtime hook encountered an error") == true)
            #expect(try await fixture.invoke("f", "1").status == 200)
        }
    }
}
