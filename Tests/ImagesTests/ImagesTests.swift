import Testing

@testable import Images

@Suite struct NameTests {
    @Test(arguments: ["base", "a", "redis-7.0_x", String(repeating: "a", count: 63), "0"])
    func goodNames(text: String) throws { #expect(try ImageName(text).description == text) }

    @Test(arguments: [
        "", ".hidden", "..", "-x", "_x", "Redis", "a/b", "a b", "a\n", "ä", "a\0b", String(repeating: "a", count: 64), "../../etc/passwd",
    ])
    func badNames(text: String) {
        #expect { try ImageName(text) } throws: { if case ImageError.invalidName(text) = $0 { true } else { false } }
    }

    @Test(arguments: ["redis-server", "g++", "libstdc++6", "python3=3.11.2-1+b1", "x11-apps", "ab=1:2~rc1-3"])
    func goodPackages(text: String) throws { #expect(try PackageRequest(text).description == text) }

    @Test(arguments: ["", "a", "-oAPT::x=y", "--include", "Redis", "a b", "redis;ls", "redis=", "redis=-1", "a/b", "?x", "ab=1\n2"])
    func badPackages(text: String) {
        #expect { try PackageRequest(text) } throws: { if case ImageError.invalidPackage(text) = $0 { true } else { false } }
    }

    @Test func listsKeepOrderAndDropRepeats() throws {
        #expect(try PackageRequest.list("zz,aa,zz").map(\.description) == ["zz", "aa"])
        #expect(throws: ImageError.self) { try PackageRequest.list("aa,,bb") }
        #expect(throws: ImageError.self) { try PackageRequest.list("") }
    }

    @Test(arguments: ["numpy", "awslambdaric==3.0.0", "Django==5.1.2+x", "typing_extensions", "a.b-c==1!2.0"])
    func goodPipRequests(text: String) throws { #expect(try PipRequest(text).description == text) }

    @Test(arguments: [
        "", "-r", "--index-url", "a b", "a=1", "a==", "==1", "a==-1", "./a", "a/b", "a>=1", "a==1==2", "a;b", "a[b]", "\u{10}a",
        String(repeating: "a", count: 257),
    ])
    func badPipRequests(text: String) {
        #expect { try PipRequest(text) } throws: { if case ImageError.invalidPackage(text) = $0 { true } else { false } }
    }

    @Test(arguments: [("512M", 512 << 20), ("4G", 4 << 30), ("4g", 4 << 30), ("1T", 1 << 40), ("600000001", 599_998_464)])
    func goodSizes(text: String, bytes: Int) throws { #expect(try ImageSize(text).bytes == bytes) }

    @Test(arguments: ["", "G", "0", "-1G", "1.5G", "511M", "2T", "4GB", "99999999999999999999", "9223372036854775807T", "0x10G", "４G"])
    func badSizes(text: String) {
        #expect { try ImageSize(text) } throws: { if case ImageError.invalidSize(text) = $0 { true } else { false } }
    }
}

@Suite struct ErrorTextTests {
    @Test func foreignTextCannotDriveTheTerminal() {
        let text = ImageError.invalidName("\u{1b}[2J\n" + String(repeating: "x", count: 10_000)).description
        #expect(!text.unicodeScalars.contains { $0.value < 0x20 })
        #expect(text.count < 300)
    }
}
