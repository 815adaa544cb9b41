import Foundation
import Groups
import Testing

@Suite struct MemorySizeTests {
    @Test(
        arguments: [
            ("TERM", 15), ("SIGTERM", 15), ("sigquit", 3), ("9", 9), ("64", 64), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63),
        ] as [(String, Int32)])
    func signalsAreNamesOrNumbers(_ text: String, _ number: Int32) throws {
        #expect(try SignalName(parsing: text).number == number)
    }

    @Test(arguments: [("10", 10), ("0.5s", 0.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("-1", -1), ("0", 0)] as [(String, Double)])
    func timesAreSecondsOrHaveAUnit(_ text: String, _ seconds: Double) throws {
        #expect(try TimeSpan.seconds(parsing: text) == seconds)
    }

    @Test(arguments: ["", "x", "s", "nan", "inf", "1e99", "10 s", "5y", "1e300h"])
    func strangeTimesAreRefused(_ text: String) { #expect(throws: GroupError.self) { try TimeSpan.seconds(parsing: text) } }

    @Test(arguments: ["", "NOPE", "0", "65", "-1", "RTMIN+31", "RTMAX-31", "RTMIN+-1", "99999999999999999999"])
    func strangeSignalsAreRefusedWithTheList(_ text: String) throws {
        let error = #expect(throws: GroupError.self) { try SignalName(parsing: text) }
        #expect(error?.description.contains("HUP INT QUIT") == true)
    }

    @Test(arguments: [
        ("0", 0), ("4096", 4096), ("1k", 1024), ("256M", 256 << 20), ("256MiB", 256 << 20), ("8G", 8 << 30), ("2gb", 2 << 30),
        ("1T", 1 << 40),
    ])
    func reads(_ text: String, _ bytes: Int) throws { #expect(try MemorySize.parse(text) == bytes) }

    @Test(arguments: ["", "M", "-1M", "1.5G", "12Q", "1MM", "99999999999999999999", "9999999999T", "1 M", "٣M"])
    func refuses(_ text: String) {
        #expect(throws: GroupError.self) { try MemorySize.parse(text) }
    }

    @Test func groupMemoryHasLimits() throws {
        #expect(throws: GroupError.self) { try MemorySize.parseGroupMemory("63M", hostBytes: 1 << 34) }
        #expect(throws: GroupError.self) { try MemorySize.parseGroupMemory("17G", hostBytes: 1 << 34) }
        #expect(try MemorySize.parseGroupMemory("64M", hostBytes: 1 << 34) == 64 << 20)
        #expect(try MemorySize.parseGroupMemory("65M", hostBytes: 1 << 34) == 64 << 20)
    }

    @Test(arguments: [(100, "100B"), (1536, "1.5K"), (256 << 20, "256M"), (8 << 30, "8G")])
    func writes(_ bytes: Int, _ text: String) { #expect(MemorySize.format(bytes) == text) }
}

@Suite struct PortMappingTests {
    @Test func readsBothForms() throws {
        #expect(try PortMapping(parsing: "8080:80") == PortMapping(hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80))
        let open = try PortMapping(parsing: "0.0.0.0:0:65535")
        #expect(open.hostAddressNumber == 0)
        #expect(open.description == "0.0.0.0:0->65535/tcp")
        #expect(try PortMapping(parsing: "10.1.2.3:1:1").hostAddressNumber == 0x0A01_0203)
    }

    @Test(arguments: ["", "80", ":80", "80:", "1:0", "65536:1", "1:65536", "a:1", "1:2:3", "256.0.0.1:1:1", "::1:1:1", "1.2.3:1:1", "-1:1"])
    func refuses(_ text: String) {
        #expect(throws: GroupError.self) { try PortMapping(parsing: text) }
    }
}

@Suite struct VolumeMappingTests {
    @Test func readsForms() throws {
        #expect(
            try VolumeMapping(parsing: "a/data.ext4", currentDirectory: "/home")
                == VolumeMapping(file: "/home/a/data.ext4", mountPoint: "/volumes/data"))
        #expect(
            try VolumeMapping(parsing: "/d:/data:ro", currentDirectory: "/")
                == VolumeMapping(file: "/d", mountPoint: "/data", readOnly: true))
    }

    @Test(arguments: ["", ":/data", "f:data", "f:/", "f:/d:xx", "f:/d:ro:x"])
    func refuses(_ text: String) {
        #expect(throws: GroupError.self) { try VolumeMapping(parsing: text, currentDirectory: "/") }
    }
}

@Suite struct TimestampTests {
    @Test func agreesWithFoundation() throws {
        let formatter = ISO8601DateFormatter()
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<2000 {
            let seconds = Int64.random(in: 0..<7_000_000_000, using: &generator)
            let text = Timestamp.format(nanosecondsSince1970: seconds * 1_000_000_000 + 123_456_789)
            let expected = formatter.string(from: Date(timeIntervalSince1970: Double(seconds))).replacingOccurrences(
                of: "Z", with: ".123456Z")
            try #require(text == expected, "seed \(seed)")
            try #require(Timestamp.seconds(of: text) == Int(seconds), "seed \(seed)")
        }
    }

    @Test func agesAreWords() {
        let then = Timestamp.format(nanosecondsSince1970: 1_000_000_000_000)
        #expect(Timestamp.age(of: then, now: 1_001_000_000_000) == "1 second")
        #expect(Timestamp.age(of: then, now: 8_200_000_000_000) == "2 hours")
        #expect(Timestamp.age(of: "junk") == "?")
    }
}

/// A generator whose sequence a printed seed reproduces (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
