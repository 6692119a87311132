-- Before the table is made: a failure here keeps the old one in place.
with

found as (

    select count(*) as recommendation_count
    from {{ ref('int_recommendations_found') }}

)

select * from found
where recommendation_count = {{ '-1' if flags.EMPTY else '0' }} -- with --empty there are no rows
