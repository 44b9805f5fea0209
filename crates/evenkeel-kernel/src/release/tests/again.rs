//! Ways back after ways back, and of one service among others.

use expect_test::expect;

use super::control::check;

#[test]
fn a_way_back_of_one_service_neither_undoes_nor_counts_for_that_of_another() {
    check(
        "web 2 blue-green bake 5
         db 1 blue-green bake 5",
        "0 apply
         20 apply web:v2 db:v2
         40 rollback db
         42 rollback web
         43 rollback web r1
         60 rollback web
         80 rollback web
         90 end",
        &["started by", "ended"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            5 release #1 ended: promoted
            20 > apply web:v2 db:v2
            20 < release #2 is started
            20 release #2 started by ann: db r1 to r2, web r1 to r2
            32 release #2 ended: promoted
            40 > rollback db
            40 < release #3 is started
            40 release #3 started by ann: db r2 to r1
            42 > rollback web
            42 < refused: release #3 is the way back of db, and this would take it back
            43 > rollback web r1
            43 < refused: release #3 is the way back of db, and this would take it back
            50 release #3 ended: promoted
            60 > rollback web
            60 < release #4 is started
            60 release #4 started by ann: web r2 to r1
            71 release #4 ended: promoted
            80 > rollback web
            80 < refused: release #4 was a way back already, and another one would lead web from r1 to r2
        "#]],
    );
}

#[test]
fn a_second_way_back_in_a_row_has_to_be_named() {
    check(
        "web 2 blue-green bake 5",
        "0 apply
         20 apply web:v2
         40 rollback
         43 rollback
         60 rollback
         61 rollback web
         62 rollback web r2
         90 rollback --force
         120 end",
        &["started by", "ended"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            31 release #2 ended: promoted
            40 > rollback
            40 < release #3 is started
            40 release #3 started by ann: web r2 to r1
            43 > rollback
            43 < refused: release #3 is a way back already, and another one would lead web from r1 to r2
            50 release #3 ended: promoted
            60 > rollback
            60 < refused: release #3 was a way back already, and another one would lead web from r1 to r2
            61 > rollback web
            61 < refused: release #3 was a way back already, and another one would lead web from r1 to r2
            62 > rollback web r2
            62 < release #4 is started
            62 release #4 started by ann: web r1 to r2
            73 release #4 ended: promoted
            90 > rollback --force
            90 < release #5 is started
            90 release #5 started by ann: web r2 to r1
            101 release #5 ended: promoted
        "#]],
    );
}

#[test]
fn a_way_back_while_the_old_is_warm_is_the_first_in_a_row_too() {
    check(
        "web 2 blue-green bake 30",
        "0 apply
         20 apply web:v2
         60 apply web:v3
         70 rollback because=smoke
         80 rollback
         81 rollback --force
         110 end",
        &["started by", "ended", "turns back", "says"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            56 release #2 ended: promoted
            60 > apply web:v3
            60 < release #3 is started
            60 release #3 started by ann: web r2 to r3
            70 > rollback because=smoke
            70 < release #3 is taken back
            70 release #3 turns back: rolled back by ann (smoke)
            71 release #3 ended: fast_rolled_back, rolled back by ann (smoke)
            80 > rollback
            80 < refused: release #3 was rolled back already, and another one would lead web from r2 to r1
            81 > rollback --force
            81 < release #4 is started
            81 release #4 started by ann: web r2 to r1
        "#]],
    );
}

#[test]
fn one_service_goes_back_to_the_revision_before() {
    check(
        "web 2 blue-green bake 5
         db 1 blue-green bake 5",
        "0 apply
         10 rollback web
         20 apply web:v2
         40 apply db:v2
         60 rollback web because=slow
         90 apply web:v3 db:v3
         91 rollback web
         120 rollback mail
         121 end",
        &["started by", "goes back"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            10 > rollback web
            10 < refused: no release that is remembered has replaced a revision of web
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            40 > apply db:v2
            40 < release #3 is started
            40 release #3 started by ann: db r1 to r2
            60 > rollback web because=slow
            60 < release #4 is started
            60 release #4 started by ann: web r2 to r1
            60 it goes back because ann says: slow
            90 > apply web:v3 db:v3
            90 < release #5 is started
            90 release #5 started by ann: db r2 to r3, web r1 to r3
            91 > rollback web
            91 < refused: release #5 is under way and moves more than web
            120 > rollback mail
            120 < refused: there is no service mail
        "#]],
    );
}
