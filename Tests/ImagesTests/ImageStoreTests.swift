import FoundationEssentials
import Synchronization
import Testing

@testable import Images

@Suite struct ImageStoreTests {
    @Test func buildsAndOpens() throws {
        let fixture = try Fixture()
        let name = try ImageName("redis")
        let built = try fixture.images().build(name, packages: try PackageRequest.list("redis-server"), progress: silent)
        #expect(built.manifest.requestedPackages == ["redis-server"])
        #expect(built.manifest.packages.map(\.version) == ["12.4", "2.36-9"])
        #expect(built.manifest.rootSize == 8192)
        #expect(built.manifest.kernelVersion == nil)
        let opened = try fixture.images().open(name)
        #expect(opened.manifest == built.manifest)
        #expect(try fixture.names("images") == ["redis"])
        #expect(try fixture.names("images/redis") == ["manifest.json", "root.ext4"])
    }

    @Test func imagesWithoutUseAreRemoved() throws {
        let fixture = try Fixture()
        let store = fixture.images()
        for name in ["used", "unused", "served", "old"] {
            _ = try store.build(try ImageName(name), packages: try PackageRequest.list("aa"), progress: silent)
        }
        _ = try store.ensureBase(progress: silent)
        // A damaged one nobody uses goes, too.
        try fixture.write("{", to: "images/old/manifest.json")
        try fixture.write(#"{"image": "used"}"#, to: "groups/g/config.json")
        try fixture.write(#"{"settings": {"image": "served"}}"#, to: "functions/f/function.json")
        try fixture.write("half", to: "images/.building-killed/result/root.ext4")
        let few = try store.prune(all: false, dryRun: true)
        #expect(few.map { "\($0.kind) \($0.name)" } == ["unfinished build killed"])
        let told = try store.prune(all: true, dryRun: true)
        #expect(told.map { "\($0.kind) \($0.name)" } == ["unfinished build killed", "image old", "image unused"])
        #expect(told.allSatisfy { $0.bytes > 0 })
        #expect(try fixture.names("images") == [".building-killed", "base", "old", "served", "unused", "used"])
        #expect(try store.prune(all: true, dryRun: false) == told)
        #expect(try fixture.names("images") == ["base", "served", "used"])
    }

    /// Labels are an input like the packages: with others the image is another one.
    @Test func labelsAreKept() throws {
        let fixture = try Fixture()
        let store = fixture.images()
        let name = try ImageName("a")
        #expect(try store.build(name, packages: [], progress: { _ in }).manifest.process == nil)
        let marked = try store.build(name, packages: [], labels: ["aurora.isolation": "strict"], progress: { _ in })
        #expect(marked.manifest.process?.labels == ["aurora.isolation": "strict"])
        #expect(try store.open(name).manifest == marked.manifest)
    }

    @Test func pipPackagesAreAskedForAndListed() throws {
        let fixture = try Fixture()
        let script = Fixture.goodImage + "shift 2; [ \"$*\" = 'python3 --pip numpy==1.0 x' ]; printf 'numpy 1.0\\nx 2\\n' > \"$out/pip\""
        let built = try fixture.images("out=$1\n" + script).build(
            try ImageName("a"), packages: try PackageRequest.list("python3"), pip: try PipRequest.list("numpy==1.0,x"), progress: silent)
        #expect(built.manifest.requestedPackages == ["python3"])
        #expect(built.manifest.requestedPip == ["numpy==1.0", "x"])
        #expect(built.manifest.pipPackages?.map(\.version) == ["1.0", "2"])
        #expect(try fixture.names("images/a") == ["manifest.json", "root.ext4"])
    }

    @Test func sameInputsAreBuiltOnce() throws {
        let fixture = try Fixture()
        let script = "echo x >> '\(fixture.path)/runs'\n" + Fixture.goodImage
        let name = try ImageName("a")
        func build(_ packages: String, size: ImageSize = .standard, refresh: Bool = false) throws {
            _ = try fixture.images(script).build(
                name, packages: try PackageRequest.list(packages), size: size, refresh: refresh, progress: silent)
        }
        func runs() throws -> Int { try Files.size("\(fixture.path)/runs").bytes / 2 }
        try build("aa,bb")
        try build("aa,bb")
        #expect(try runs() == 1)
        try build("aa")
        #expect(try runs() == 2)
        try build("aa", size: try ImageSize("1G"))
        #expect(try runs() == 3)
        try build("aa", size: try ImageSize("1G"), refresh: true)
        #expect(try runs() == 4)
        _ = try fixture.images(script + "# changed\n").build(
            name, packages: try PackageRequest.list("aa"), size: try ImageSize("1G"), progress: silent)
        #expect(try runs() == 5)
    }

    @Test func parametersDoNotRunTogether() {
        let recipes = Recipes(files: [:])
        #expect(recipes.digest(.image, parameters: ["ab", "c"]) != recipes.digest(.image, parameters: ["a", "bc"]))
    }

    @Test func baseIsReserved() throws {
        let fixture = try Fixture()
        #expect { try fixture.images().build(.base, packages: [], progress: silent) } throws: {
            if case ImageError.reservedName("base") = $0 { true } else { false }
        }
        #expect(try fixture.images().ensureBase(progress: silent).manifest.requestedPackages == [])
    }

    @Test func missingImagesSayHowToMakeThem() throws {
        let fixture = try Fixture()
        #expect { try fixture.images().open(try ImageName("nope")) } throws: {
            "\($0)"
                == "No image named nope: `aurora image ls` shows what there is, `aurora image build nope --packages ...` "
                + "or `aurora image import` makes it"
        }
        #expect { try fixture.images().open(.base) } throws: { "\($0)".contains("run `aurora image prepare`") }
        #expect(try fixture.images().list().isEmpty)
    }

    @Test func removesOnlyWhatNoGroupUses() throws {
        let fixture = try Fixture()
        let store = fixture.images()
        let name = try ImageName("redis")
        _ = try store.build(name, packages: [], progress: silent)
        try fixture.write(#"{"image":"redis"}"#, to: "groups/r/config.json")
        try fixture.write(#"{"image":"other"}"#, to: "groups/o/config.json")
        try fixture.write("not JSON", to: "groups/broken/config.json")
        #expect { try store.remove(name) } throws: {
            if case ImageError.inUse("redis", ["broken", "r"]) = $0 { true } else { false }
        }
        try store.remove(name, force: true)
        #expect(try fixture.names("images").isEmpty)
        #expect { try store.remove(name) } throws: { if case ImageError.notFound("redis") = $0 { true } else { false } }
    }

    @Test func linkOutlivesTheImage() throws {
        let fixture = try Fixture()
        let name = try ImageName("a")
        try fixture.images().build(name, packages: [], progress: silent).link(to: "\(fixture.path)/mine")
        try fixture.images().remove(name)
        #expect(try Files.size("\(fixture.path)/mine").bytes == 8192)
    }
}

@Suite struct ManifestTests {
    /// Each is a way a manifest can be wrong; the right one comes from a build.
    static let damages: [(String, @Sendable (String) -> String)] = [
        ("empty", { _ in "" }),
        ("not JSON", { _ in "\u{0}\u{1}junk" }),
        ("cut", { String($0.prefix($0.count / 2)) }),
        ("an array", { _ in "[]" }),
        ("a newer version", { $0.replacing(#""schema" : 1"#, with: #""schema" : 2"#) }),
        ("a huge version", { $0.replacing(#""schema" : 1"#, with: #""schema" : 1e999"#) }),
        ("another kind", { $0.replacing("aurora-image", with: "aurora-kernel") }),
        ("another image's", { $0.replacing(#""name" : "a""#, with: #""name" : "b""#) }),
        ("a negative size", { $0.replacing(#""rootSize" : 8192"#, with: #""rootSize" : -1"#) }),
        ("another size", { $0.replacing(#""rootSize" : 8192"#, with: #""rootSize" : 9000"#) }),
        ("a missing field", { $0.replacing(#""rootSize""#, with: #""rootsize""#) }),
        ("a bad digest", { $0.replacing(#""rootSHA256" : ""#, with: #""rootSHA256" : "../"#) }),
        ("deep", { _ in String(repeating: "[", count: 1 << 20) }),
        ("too long", { $0 + String(repeating: " ", count: Manifest.lengthMax) }),
    ]

    @Test(arguments: damages.indices) func damageIsNamed(index: Int) throws {
        let (what, damage) = Self.damages[index]
        let fixture = try Fixture()
        let store = fixture.images()
        let name = try ImageName("a")
        _ = try store.build(name, packages: [], progress: silent)
        let path = "\(fixture.path)/images/a/manifest.json"
        let good = String(decoding: try Files.read(path, lengthMax: Manifest.lengthMax), as: UTF8.self)
        let bad = damage(good)
        try #require(bad != good, "the damage \(what) changes nothing")
        try Files.write(Array(bad.utf8), to: path)
        #expect("\(what)") { try store.open(name) } throws: { error in
            guard case ImageError.corrupt("image a", "\(fixture.path)/images/a", _, _) = error else { return false }
            return "\(error)".contains("aurora image build a")
        }
        // It is listed as what it is, and building again repairs it.
        #expect(try store.list().count == 1)
        #expect(throws: Never.self) { try store.build(name, packages: [], progress: silent) }
    }

    @Test func missingAndOtherRootFilesAreFound() throws {
        let fixture = try Fixture()
        let store = fixture.images()
        let root = "\(fixture.path)/images/base/root.ext4"
        _ = try store.ensureBase(progress: silent)
        try Files.write([1, 2, 3], to: root)
        #expect { try store.open(.base) } throws: { "\($0)".contains("root.ext4 has 3 bytes") && "\($0)".contains("aurora image prepare") }
        try Files.removeTree(root)
        #expect { try store.open(.base) } throws: { "\($0)".contains("root.ext4 is missing") }
        try Files.makeDirectory(root)
        #expect { try store.open(.base) } throws: { "\($0)".contains("root.ext4 is missing") }
        #expect(try store.ensureBase(progress: silent).manifest.rootSize == 8192)
    }
}
